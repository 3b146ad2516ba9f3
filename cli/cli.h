/* SPDX-License-Identifier: MIT */
/*
 * wslx's verbs, one file each. A verb gets its own arguments (argv[0] is its name as typed) and
 * returns the exit status. What goes wrong is said once, on stderr: "wslx: intent: cause".
 */
#ifndef WSLX_CLI_CLI_H
#define WSLX_CLI_CLI_H

#include <stdbool.h>
#include "lib/base/err.h"
#include "lib/ctl/service.h"

/* wslx's own exit statuses; below them it is the guest program's. */
enum { EX_OURS = 125, EX_NOT_EXECUTABLE = 126, EX_NOT_FOUND = 127 };

struct verb {
	const char *name, *alias; /* "--list", "-l" */
	int (*fn)(int argc, char **argv);
	/* Is it meant at all, with these arguments? NULL: it is. */
	bool (*wants)(int argc, char **argv);
};

int verb_run(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_import(int argc, char **argv);
int verb_install(int argc, char **argv);
int verb_set_version(int argc, char **argv);
int verb_set_default_version(int argc, char **argv);
int verb_update(int argc, char **argv);
int verb_uninstall(int argc, char **argv);
int verb_manage(int argc, char **argv);
int verb_import_in_place(int argc, char **argv);
int verb_export(int argc, char **argv);
int verb_mount(int argc, char **argv);
int verb_mount_folder(int argc, char **argv);
bool mount_folder_wants(int argc, char **argv);
int verb_unmount(int argc, char **argv);
int verb_unregister(int argc, char **argv);
int verb_terminate(int argc, char **argv);
int verb_shutdown(int argc, char **argv);
int verb_set_default(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_cp(int argc, char **argv);
int verb_debug_shell(int argc, char **argv);
int verb_port(int argc, char **argv);
int verb_network(int argc, char **argv);
int verb_diag(int argc, char **argv);
int verb_version(int argc, char **argv);
int verb_help(int argc, char **argv);

/* Prints "wslx: " and the text; returns EX_OURS. */
int fail(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* The same for wrong arguments, with a hint at --help. */
int usage_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void warning(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* One call without descriptors; params is taken over. Says what went wrong. 0 or EX_OURS. */
int service_call(const char *intent, const char *method, struct json_object *params,
	struct json_object **ret);

/* For verbs with one argument, the distribution's name. */
int name_verb(int argc, char **argv, const char *method, const char *intent);

/* path, made absolute by the working directory; -ENAMETOOLONG. */
int absolute_path(const char *path, char *buf, size_t cap);

/* Whether a file is a VHDX file; anything else is a raw disk. */
bool is_vhdx(int fd);
/* Whether a name has this ending, in any case. */
bool ends_in(const char *s, const char *end);

/* Writes out what stdout still buffers; EX_OURS and a message when that fails (a full disk). */
int finish_output(void);

#endif
