/* SPDX-License-Identifier: MIT */
/* Floating point: scalar, vector (SSE2, which all processors compared have), division and square root, x87. */
#include <string.h>
#include "bench/guest/bench.h"

enum { N = 48 };

typedef float v4 __attribute__((vector_size(16)));

static uint64_t bits(double d)
{
	uint64_t u;

	memcpy(&u, &d, sizeof(u));
	return u;
}

static __attribute__((optimize("no-tree-vectorize"))) uint64_t matmul(uint64_t n)
{
	static double a[N][N], b[N][N], c[N][N];

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j] = i + j * 0.5;
			b[i][j] = i * 0.25 - j;
		}
	while (n--) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				double s = 0;

				for (int k = 0; k < N; k++)
					s += a[i][k] * b[k][j];
				c[i][j] = s;
			}
		barrier();
	}
	return bits(c[3][5]) ^ bits(c[N - 1][N - 2]);
}

static uint64_t matmul_vector(uint64_t n)
{
	static v4 a[N][N / 4], b[N][N / 4], c[N][N / 4];

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j / 4][j % 4] = (float)(i + j) * 0.5f;
			b[i][j / 4][j % 4] = (float)(i - j) * 0.25f;
		}
	while (n--) {
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N / 4; j++) {
				v4 s = {0};

				for (int k = 0; k < N; k++) {
					float f = a[i][k / 4][k % 4];

					s += (v4){f, f, f, f} * b[k][j];
				}
				c[i][j] = s;
			}
		barrier();
	}
	return bits((double)c[3][1][1]) ^ bits((double)c[N - 1][N / 4 - 1][2]);
}

static uint64_t div_sqrt(uint64_t n)
{
	double x = 1e6, y = 3;

	for (uint64_t i = 0; i < n; i++) {
		double r = x / y + 1;

		__asm__ volatile("sqrtsd %0, %0" : "+x"(r));
		x = r + (double)(i & 1023);
		y = 3 + r * 0.125;
	}
	return bits(x) ^ bits(y);
}

static uint64_t x87(uint64_t n)
{
	long double x = 0, y = 0.3L; /* chaotic, so that a wrong bit shows */

	for (uint64_t i = 0; i < n; i++) {
		y = 3.75L * y * (1.0L - y);
		x = x * 0.75L + y;
		if (x > 2.0L)
			x -= 1.5L;
	}
	return bits((double)x) ^ bits((double)y);
}

const struct workload work_float[] = {{"matmul", matmul}, {"matmul-vector", matmul_vector},
	{"div-sqrt", div_sqrt}, {"x87", x87}, {NULL, NULL}};
