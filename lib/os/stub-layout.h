/* SPDX-License-Identifier: MIT */
/* Where a stub's own pages are, from stub_base() on, for C and assembly. */
#ifndef WSLX_OS_STUB_LAYOUT_H
#define WSLX_OS_STUB_LAYOUT_H

#define STUB_CODE   0	   /* read and execute */
#define STUB_ORDERS 0x1000 /* read: what to do. The guest's program must not be able to change it */
#define STUB_STACK  0x3000 /* read and write: the signal stack, with the registers */
#define STUB_LEN    0x10000
#define STUB_SHARED (STUB_LEN - STUB_ORDERS) /* of it is shared with the monitor */

/* struct stub_orders */
#define ORDERS_FS     0
#define ORDERS_GS     8
#define ORDERS_FRAME  16
#define ORDERS_COUNT  24
#define ORDERS_DS     32
#define ORDERS_ES     34
#define ORDERS_FS_SEL 36
#define ORDERS_GS_SEL 38
#define ORDERS_OPS    64
#define ORDERS_OP_LEN 64

/* The system call that parks a thread: any that every filter of a container allows. */
#define STUB_PARK 39 /* getpid */

#endif
