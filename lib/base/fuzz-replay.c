/* SPDX-License-Identifier: MIT */
/*
 * Stands in for libFuzzer where it is not linked: feeds every file of the folders and files named
 * on the command line to the target once, plus some hundred deterministic mutations of each, and
 * prints TAP.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_LIMIT = 1 << 16, MUTATIONS = 500 };

static uint64_t rng = 88172645463325252ull;
static unsigned long inputs;

static uint64_t next(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static void one(const uint8_t *data, size_t size)
{
	/* An exact-size heap copy lets a sanitizer see reads past the end. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	inputs++;
}

static void mutate(const uint8_t *data, size_t size)
{
	static uint8_t buf[INPUT_LIMIT];

	one(data, size);
	for (int i = 0; i < MUTATIONS; i++) {
		size_t n = size;

		memcpy(buf, data, size);
		if (next() % 4 == 0)
			n = size ? next() % size : 0;
		else if (next() % 4 == 0 && size < INPUT_LIMIT - 64)
			for (size_t end = size + next() % 64; n < end; n++)
				buf[n] = (uint8_t)next();
		for (unsigned k = next() % 8; k && n; k--)
			buf[next() % n] = next() % 3 ? (uint8_t)next() : (uint8_t)(next() % 2 - 1);
		one(buf, n);
	}
}

static void file(const char *path)
{
	static uint8_t buf[INPUT_LIMIT];
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		exit(1);
	}
	size_t n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	mutate(buf, n);
}

int main(int argc, char **argv)
{
	alarm(300);
	mutate((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) < 0)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			file(argv[i]);
			continue;
		}
		DIR *d = opendir(argv[i]);
		for (struct dirent *e; d && (e = readdir(d));) {
			char path[4096];

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			file(path);
		}
		if (d)
			closedir(d);
	}
	printf("ok 1 - replayed %lu inputs\n1..1\n", inputs);
	return 0;
}
