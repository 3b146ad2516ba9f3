/* SPDX-License-Identifier: MIT */
/*
 * Which of a guest address space's pages are mapped in a stub: a TLB whose entries are the stub's mappings. As a TLB it may know
 * more than the page tables say, until the guest flushes; and as in one a page is only writable here when its dirty bit is set. Unlike
 * in one an entry survives a flush, if the page table still says the same: each is remembered with the page table's entry that it was
 * made of, and compared. vCPU's thread only.
 */
#ifndef WSLX_SOFT_SPACE_H
#define WSLX_SOFT_SPACE_H

#include "lib/os/stub.h"
#include "vmm/cpu/soft/cpu.h"

struct space;

/* s stays the caller's. */
int space_new(struct space **ret, struct stub *s, uint64_t ram_pages);
void space_free(struct space *sp);

/* Empties it, for another address space. */
void space_clear(struct space *sp);
enum space_result {
	SPACE_MAPPED,
	SPACE_FAULTS, /* in the guest */
	SPACE_FOREIGN /* fine, but not for a stub */
};
/* Maps what the access (ACC_W, ACC_X) to lin needs, and some neighbours. */
enum space_result space_fault(struct space *sp, struct soft_vcpu *c, uint64_t lin, unsigned acc);
/* Unmaps what the page tables of c->cr3 do not say any more. false: that was all, this is another address space. */
bool space_flush(struct space *sp, struct soft_vcpu *c);
void space_flush_page(struct space *sp, struct soft_vcpu *c, uint64_t lin);
/* Unmaps where the page of RAM is writable. */
void space_protect(struct space *sp, struct soft_vcpu *c, uint64_t gpa);
/* The page of RAM is not what it was when it was copied. */
void space_code_gone(struct space *sp, uint64_t gpa);
/* The byte at an address of the guest; 0: there is none. */
uint8_t space_byte(struct soft_vcpu *c, uint64_t lin);
/* Whether the guest has something at the stub's own addresses. */
bool space_collides(struct soft_vcpu *c);

#endif
