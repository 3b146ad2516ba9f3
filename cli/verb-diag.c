/* SPDX-License-Identifier: MIT */
/* wslx diag SUBCOMMAND: a look at running virtual machines. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/diag.h"
#include "lib/base/cleanup.h"

struct args {
	const char *vm;	  /* NULL: the only one */
	const char *file; /* dump */
	bool json, follow;
	unsigned long vcpu; /* ~0: all */
};

static struct json_object *vm_param(const struct args *a)
{
	struct json_object *o = js_object();

	return a->vm ? js_set_str(o, "vm", a->vm) : o;
}

static int print_json(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	return finish_output();
}

static int do_list(const struct args *a)
{
	cleanup_js struct json_object *o = NULL;
	int r = service_call("list virtual machines", "diag-list", NULL, &o);

	if (r)
		return r;
	if (a->json)
		return print_json(js_get(o, "machines"));
	diag_print_list(js_get(o, "machines"));
	return finish_output();
}

static int do_timeline(const struct args *a)
{
	cleanup_js struct json_object *o = NULL;
	int r = service_call("show the boot's timeline", "diag-timeline", vm_param(a), &o);

	if (r)
		return r;
	if (a->json)
		return print_json(o);
	diag_print_timeline(js_get(o, "stages"));
	return finish_output();
}

static int do_registers(const struct args *a)
{
	cleanup_js struct json_object *o = NULL;
	struct json_object *params = vm_param(a);
	int r;

	if (a->vcpu != ~0ul)
		js_set_u64(params, "vcpu", a->vcpu);
	r = service_call("read the registers", "diag-registers", params, &o);
	if (r)
		return r;
	if (a->json)
		return print_json(o);
	diag_print_registers(js_get(o, "vcpus"));
	return finish_output();
}

static int do_reclaim(const struct args *a)
{
	cleanup_js struct json_object *o = NULL;
	int r = service_call("give memory back", "diag-reclaim", vm_param(a), &o);

	if (r)
		return r;
	if (a->json)
		return print_json(o);
	printf("%llu of %llu MiB are free in the guest\n",
		(unsigned long long)js_u64(o, "free_kib", 0) >> 10,
		(unsigned long long)js_u64(o, "total_kib", 0) >> 10);
	return finish_output();
}

static int do_kill(const struct args *a)
{
	return service_call("kill the virtual machine", "diag-kill", vm_param(a), NULL);
}

static int do_dump(const struct args *a)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_close int fd = -EBADF;
	struct err e = {0};

	if (service_connect(&c, &e) < 0)
		return fail("dump memory: %s", e.text);
	fd = open(a->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail("dump memory: make %s: %m", a->file);

	struct ctl_req req = {.method = "diag-dump", .params = vm_param(a), .fds = &fd, .nfds = 1};
	if (ctl_call(c, &req, NULL, &e) == 0)
		return 0;
	unlink(a->file);
	return fail("dump memory: %s", e.text);
}

/* The VM's entry in the list; NULL and *ret_status when there is none. */
static struct json_object *find_machine(const struct args *a, int *ret_status)
{
	cleanup_js struct json_object *o = NULL;
	struct json_object *list, *found = NULL;
	size_t n;

	*ret_status = service_call("read the console", "diag-list", NULL, &o);
	if (*ret_status)
		return NULL;
	list = js_get(o, "machines");
	n = list ? json_object_array_length(list) : 0;
	for (size_t i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(list, i);

		if (!a->vm || strcmp(js_str(m, "id", ""), a->vm) == 0)
			found = m;
	}
	if (found && !a->vm && n > 1)
		*ret_status =
			fail("read the console: several virtual machines run; 'wslx diag list' "
			     "shows them");
	else if (!found && a->vm)
		*ret_status = fail("read the console: there is no virtual machine '%s'; 'wslx diag "
				   "list' shows all",
			a->vm);
	else if (!found)
		*ret_status = fail("read the console: no virtual machine runs");
	return *ret_status ? NULL : json_object_get(found);
}

static bool still_runs(const char *id)
{
	cleanup_js struct json_object *o = NULL;
	struct json_object *list;

	if (service_call("read the console", "diag-list", NULL, &o))
		return false;
	list = js_get(o, "machines");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		if (strcmp(js_str(json_object_array_get_idx(list, i), "id", ""), id) == 0)
			return true;
	return false;
}

/* A guest may write anything to its console: only what a terminal takes for text reaches one. */
static void print_console(char *text, size_t n, bool tty)
{
	for (size_t i = 0; tty && i < n; i++)
		if ((unsigned char)text[i] < ' ' && !strchr("\n\t\r", text[i]))
			text[i] = '?';
	fwrite(text, 1, n, stdout);
}

static int do_console(const struct args *a)
{
	enum { LOOK_MS = 100, ASK_EVERY = 10 };
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
	cleanup_js struct json_object *m = NULL;
	cleanup_close int fd = -EBADF;
	struct stat st;
	bool tty = isatty(STDOUT_FILENO), last = !a->follow;
	char buf[65536];
	ssize_t n;
	int r;

	m = find_machine(a, &r);
	if (!m)
		return r;
	fd = open(js_str(m, "console", ""), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail("read the console: %s: %m", js_str(m, "console", ""));
	for (unsigned i = 1;; i++) {
		/* A console that became too long has started anew. */
		if (fstat(fd, &st) == 0 && lseek(fd, 0, SEEK_CUR) > st.st_size &&
			S_ISREG(st.st_mode))
			lseek(fd, 0, SEEK_SET);
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			print_console(buf, (size_t)n, tty);
		r = n < 0 ? fail("read the console: %m") : finish_output();
		if (r || last)
			return r;
		/* What it said to its very end is read after it has gone. */
		if (i % ASK_EVERY == 0)
			last = !still_runs(js_str(m, "id", ""));
		nanosleep(&pause, NULL);
	}
}

static const struct subcommand {
	const char *name;
	int (*fn)(const struct args *a);
	bool json, follow, vcpu, vm, file;
} subcommands[] = {
	{"list", do_list, .json = true},
	{"console", do_console, .follow = true, .vm = true},
	{"kill", do_kill, .vm = true},
	{"registers", do_registers, .json = true, .vcpu = true, .vm = true},
	{"dump", do_dump, .vm = true, .file = true},
	{"timeline", do_timeline, .json = true, .vm = true},
	{"reclaim", do_reclaim, .json = true, .vm = true},
};

static int parse(const struct subcommand *s, int argc, char **argv, struct args *a)
{
	const char *words[2];
	int n = 0;
	char *end;

	*a = (struct args){.vcpu = ~0ul};
	for (int i = 2; i < argc; i++) {
		const char *w = argv[i];

		if (s->json && !strcmp(w, "--json")) {
			a->json = true;
		} else if (s->follow && (!strcmp(w, "-f") || !strcmp(w, "--follow"))) {
			a->follow = true;
		} else if (s->vcpu && !strcmp(w, "--vcpu")) {
			if (i + 1 == argc)
				return usage_error("diag %s: --vcpu needs a number", s->name);
			w = argv[++i];
			a->vcpu = strtoul(w, &end, 10);
			if (end == w || *end || *w == '-' || a->vcpu > 1023)
				return usage_error(
					"diag %s: --vcpu '%s': a number is needed", s->name, w);
		} else if (w[0] == '-' || n == s->vm + s->file) {
			return usage_error("diag %s: unknown argument '%s'", s->name, w);
		} else {
			words[n++] = w;
		}
	}
	if (s->file && n == 0)
		return usage_error("diag %s needs a file", s->name);
	if (s->file)
		a->file = words[--n];
	if (n)
		a->vm = words[0];
	return 0;
}

int verb_diag(int argc, char **argv)
{
	struct args a;
	int r;

	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(subcommands); i++)
		if (strcmp(argv[1], subcommands[i].name) == 0) {
			r = parse(&subcommands[i], argc, argv, &a);
			return r ? r : subcommands[i].fn(&a);
		}
	if (argc < 2)
		return usage_error("diag needs a subcommand: list, console, kill, registers, dump, "
				   "timeline or reclaim");
	return usage_error("diag: unknown subcommand '%s'", argv[1]);
}
