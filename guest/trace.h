/* SPDX-License-Identifier: MIT */
/* The kernel's tracing: events for ourselves, in a buffer that nobody else's tracing fills or empties. */
#ifndef WSLX_GUEST_TRACE_H
#define WSLX_GUEST_TRACE_H

#define TRACEFS "/sys/kernel/tracing"

/* Makes a buffer of this many KiB a processor, if there is none of this name. */
int trace_buffer(const char *name, unsigned kib);
/* Defines an event by a probe (Documentation/trace/kprobetrace); one that is there stays as it is. */
int trace_probe(const char *definition);
/* Has the buffer take an event, "group/name". filter may be NULL. */
int trace_event(const char *buffer, const char *event, const char *filter);
/* A descriptor, non-blocking, that says each event once, in lines of text. */
int trace_read(const char *buffer);

#endif
