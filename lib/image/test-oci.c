/* SPDX-License-Identifier: MIT */
/* Container images: layers in order, what they take away, digests, platforms; both forms of archive. */
#include "lib/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <sys/stat.h>
#define TEST_TIMEOUT_S 240
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/test.h"
#include "lib/image/test-rig.h"

/* A file to be: what it holds, and its digest. */
struct blob {
	char *data;
	size_t len;
	char hex[65], path[100];
};

/* What blobs hold lives as long as the program. */
static char *kept[256];
static unsigned n_kept;

static void free_kept(void)
{
	while (n_kept)
		free(kept[--n_kept]);
}

/* Takes b->data over. */
static void digest(struct blob *b)
{
	struct sha256_ctx sha;
	uint8_t d[32];

	if (n_kept == ARRAY_LEN(kept) || (n_kept == 0 && atexit(free_kept)))
		abort();
	kept[n_kept++] = b->data;

	sha256_init(&sha);
	sha256_update(&sha, b->len, (const uint8_t *)b->data);
	sha256_digest(&sha, 32, d);
	for (unsigned i = 0; i < 32; i++)
		snprintf(b->hex + 2 * i, 3, "%02x", d[i]);
	snprintf(b->path, sizeof(b->path), "blobs/sha256/%s", b->hex);
}

/* The archive that was just made, compressed by this command ("cat": not at all). */
static struct blob layer(const char *command)
{
	struct blob b = {0};
	char cmd[300], path[80];

	rig_finish();
	snprintf(path, sizeof(path), "%s/layer", rig_path);
	snprintf(cmd, sizeof(cmd), "%s <%s >%s", command, rig_tar, path);
	if (system(cmd) != 0 || io_read_file(path, 1 << 24, &b.data, &b.len) < 0)
		abort();
	digest(&b);
	return b;
}

static struct blob text(const char *fmt, ...) PRINTF_LIKE(1, 2);
static struct blob text(const char *fmt, ...)
{
	struct blob b = {0};
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&b.data, fmt, ap) < 0)
		abort();
	va_end(ap);
	b.len = strlen(b.data);
	digest(&b);
	return b;
}

static void put_blob(const struct blob *b)
{
	rig_file(b->path, b->data, b->len);
}

static struct blob base(const char *command)
{
	rig_start();
	rig_root();
	rig_file("./etc/os-release", "ID=layered\nVERSION_ID=3\n", 24);
	rig_file("./etc/gone", "x", 1);
	rig_folder("./opt/");
	rig_folder("./opt/a/");
	rig_file("./opt/a/old", "x", 1);
	rig_file("./opt/b", "x", 1);
	rig_folder("./var/");
	rig_folder("./var/deep/");
	rig_folder("./var/deep/er/");
	rig_file("./var/deep/er/file", "x", 1);
	rig_file("./file-then-folder", "x", 1);
	rig_folder("./folder-then-file/");
	rig_file("./folder-then-file/x", "x", 1);
	return layer(command);
}

static struct blob upper(const char *command)
{
	rig_start();
	rig_file("etc/.wh.gone", "", 0);
	rig_file("etc/.wh.never-was", "", 0);
	rig_folder("opt/");
	rig_file("opt/new", "new", 3);
	rig_file("opt/.wh..wh..opq", "", 0);
	rig_file("var/.wh.deep", "", 0);
	rig_folder("file-then-folder/");
	rig_file("file-then-folder/y", "y", 1);
	rig_file("folder-then-file", "file", 4);
	rig_hardlink("etc/sh-link", "usr/bin/sh"); /* to a file of the layer below */
	return layer(command);
}

static void check_result(void)
{
	static const char *const there[] = {"etc/os-release", "opt/new", "file-then-folder/y",
		"folder-then-file", "etc/sh-link", "var", "bin"};
	static const char *const gone[] = {"etc/gone", "etc/.wh.gone", "opt/a", "opt/b",
		"opt/.wh..wh..opq", "var/deep", "folder-then-file/x", "manifest.json", "blobs",
		"index.json"};
	struct ext2_inode_large i;

	CHECK_EQ(rig_fsck(), 0);
	REQUIRE(rig_open());
	for (unsigned k = 0; k < ARRAY_LEN(there); k++)
		if (!rig_lookup(there[k], NULL)) {
			printf("# %s is missing\n", there[k]);
			test_failed_checks++;
		}
	for (unsigned k = 0; k < ARRAY_LEN(gone); k++)
		if (rig_lookup(gone[k], NULL)) {
			printf("# %s is there\n", gone[k]);
			test_failed_checks++;
		}
	CHECK(rig_lookup("etc/sh-link", &i) == rig_lookup("usr/bin/sh", NULL));
	CHECK_EQ(i.i_links_count, 2);
	ext2fs_close_free(&rig_fs);
}

static void import_ok(void)
{
	int r = rig_import_size(64 << 20);

	if (r < 0)
		printf("# import: %s\n", rig_err.text);
	CHECK_EQ(r, 0);
}

static void refused(const char *what)
{
	int r = rig_import_size(64 << 20);

	if (r >= 0 || !strstr(rig_err.text, what)) {
		printf("# want \"%s\", got %d: %s\n", what, r, rig_err.text);
		test_failed_checks++;
	}
}

#define PLATFORM(arch) "{\"os\":\"linux\",\"architecture\":\"" arch "\"}"

static struct blob descriptor(const char *type, const struct blob *b, const char *platform)
{
	return text("{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%zu%s%s}", type,
		b->hex, b->len, platform ? ",\"platform\":" : "", platform ? platform : "");
}

static struct blob manifest(const struct blob *config, const struct blob *l, unsigned n)
{
	struct blob c = descriptor("application/vnd.oci.image.config.v1+json", config, NULL);
	struct blob m = text("{\"schemaVersion\":2,\"config\":%s,\"layers\":[", c.data);

	for (unsigned i = 0; i < n; i++) {
		struct blob d =
			descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &l[i], NULL);

		m = text("%s%s%s", m.data, i ? "," : "", d.data);
	}
	return text("%s]}", m.data);
}

/* An OCI layout whose index has an index for two platforms; its blobs come in no useful order. */
static void put_layout(const struct blob *l, unsigned n)
{
	struct blob config = text("{\"os\":\"linux\",\"architecture\":\"amd64\"}");
	struct blob m = manifest(&config, l, n), other = text("{\"not\":\"wanted\"}");
	struct blob index = text("{\"schemaVersion\":2,\"manifests\":[%s,%s]}",
		descriptor("m", &other, PLATFORM("arm64")).data,
		descriptor("m", &m, PLATFORM("amd64")).data);
	struct blob top = text("{\"schemaVersion\":2,\"manifests\":[%s]}",
		descriptor("application/vnd.oci.image.index.v1+json", &index, NULL).data);

	rig_start();
	rig_folder("./");
	rig_folder("blobs/");
	rig_folder("blobs/sha256/");
	for (unsigned i = n; i--;)
		put_blob(&l[i]);
	put_blob(&index);
	put_blob(&m);
	put_blob(&config);
	rig_file("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
	rig_file("index.json", top.data, top.len);
	rig_finish();
}

TEST(an_oci_layout)
{
	static const char *const tools[] = {"cat", "gzip -c", "zstd -qc"};

	for (unsigned i = 0; i < ARRAY_LEN(tools); i++) {
		const struct blob l[] = {base(tools[i]), upper(tools[i])};

		put_layout(l, 2);
		import_ok();
		check_result();
	}
}

TEST(from_a_pipe)
{
	const struct blob l[] = {base("gzip -c"), upper("gzip -c")};
	char cmd[100];
	FILE *p;

	put_layout(l, 2);
	snprintf(cmd, sizeof(cmd), "cat %s", rig_tar);
	p = popen(cmd, "r");
	REQUIRE(p);
	CHECK_EQ(rig_import_fd(fileno(p), 64 << 20), 0);
	CHECK_EQ(pclose(p), 0);
	check_result();
}

/* Names as of old: a folder for each layer, one of them a link to another's. */
TEST(docker_save)
{
	struct blob l[] = {base("cat"), upper("cat")};
	struct blob config =
		text("{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":"
		     "[\"sha256:%s\",\"sha256:%s\",\"sha256:%s\"]}}",
			l[0].hex, l[1].hex, l[1].hex);
	struct blob m = text("[{\"Config\":\"%s.json\",\"RepoTags\":[\"x:y\"],"
			     "\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\",\"cc/layer.tar\"]}]",
		config.hex);
	char name[100];

	snprintf(name, sizeof(name), "%s.json", config.hex);
	rig_start();
	rig_file(name, config.data, config.len);
	rig_folder("aa/");
	rig_file("aa/layer.tar", l[0].data, l[0].len);
	rig_file("bb/layer.tar", l[1].data, l[1].len);
	rig_symlink("cc/layer.tar", "../bb/layer.tar");
	rig_file("manifest.json", m.data, m.len);
	rig_finish();
	import_ok();
	check_result();
}

TEST(damage_is_noticed)
{
	struct blob l[] = {base("cat"), upper("gzip -c")};

	l[0].data[600] ^= 1;
	put_layout(l, 2);
	refused("layer 1");
	l[0].data[600] ^= 1;
	l[1].data[l[1].len - 6] ^= 1; /* the checksum at gzip's end */
	put_layout(l, 2);
	refused("layer 2");
}

TEST(what_follows_a_layer_belongs_to_its_digest)
{
	struct blob short_one = base("cat"), l = {.len = short_one.len + 2048};

	l.data = calloc(1, l.len);
	REQUIRE(l.data);
	memcpy(l.data, short_one.data, short_one.len);
	digest(&l);
	put_layout(&l, 1);
	import_ok();
	l.data[l.len - 1] = 1;
	put_layout(&l, 1);
	refused("has not the digest it should have");
}

TEST(refusals)
{
	struct blob l = base("cat"), config = text("{\"os\":\"linux\",\"architecture\":\"arm64\"}");
	struct blob m = manifest(&config, &l, 1), top;

	rig_start();
	rig_file("oci-layout", "{}", 2);
	top = text("{\"manifests\":[%s]}", descriptor("m", &m, PLATFORM("arm64")).data);
	rig_file("index.json", top.data, top.len);
	rig_finish();
	refused("no image for linux/amd64");

	rig_start();
	top = text("{\"manifests\":[%s]}", descriptor("m", &m, NULL).data);
	rig_file("index.json", top.data, top.len);
	put_blob(&m);
	put_blob(&config);
	put_blob(&l);
	rig_finish();
	refused("not for linux/amd64");

	rig_start();
	rig_file("index.json", top.data, top.len);
	rig_finish();
	refused("the archive has no file blobs/sha256/");

	rig_start();
	top = text("{\"manifests\":[{\"digest\":\"md5:1\"}]}");
	rig_file("index.json", top.data, top.len);
	rig_finish();
	refused("is not a SHA-256");

	rig_start();
	rig_file("manifest.json", "[{},{}]", 7);
	rig_finish();
	refused("it holds 2 images");

	rig_start();
	top = text("[{\"Config\":\"../c\",\"Layers\":[\"l\"]}]");
	rig_file("manifest.json", top.data, top.len);
	rig_finish();
	refused("unsafe path");

	rig_start();
	rig_folder("blobs/");
	rig_finish();
	refused("neither index.json nor manifest.json");

	l = text("no archive");
	put_layout(&l, 1);
	refused("layer 1: not a tar archive");
}

TEST_MAIN()
