/* SPDX-License-Identifier: MIT */
/* The machine's ACPI tables (acpi.h); section numbers are ACPI 6.4's. */
#include "vmm/boot/acpi.h"

#include <errno.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/boot/aml.h"
#include "vmm/chip/platform.h"
#include "vmm/core/cpu.h"

enum { HDR = 36, RSDP_LEN = 36, ALIGN = 16 };

/* A growing list of tables in a page-aligned block of guest memory. */
struct tables {
	struct gmem *gm;
	gpa_t at, end;
	gpa_t addr[8]; /* of what the XSDT lists */
	unsigned n;
	int err;
};

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/* §5.2.6. The body follows; finish() completes it. */
static void header(uint8_t *t, const char sig[4], uint8_t revision)
{
	memcpy(t, sig, 4);
	t[8] = revision;
	memcpy(t + 10, "WSLX  ", 6);
	memcpy(t + 16, "WSLXVMM ", 8);
	le32_put(t + 24, 1);
	memcpy(t + 28, "WSLX", 4);
	le32_put(t + 32, 1);
}

static gpa_t put(struct tables *ts, uint8_t *t, size_t len)
{
	gpa_t at = ts->at;

	le32_put(t + 4, len);
	t[9] = 0;
	t[9] = checksum(t, len);
	if (len > ts->end - at)
		ts->err = -ENOSPC;
	else if (gmem_write(ts->gm, at, t, len) < 0)
		ts->err = -EFAULT;
	else
		ts->at = ALIGN_UP(at + len, ALIGN);
	return at;
}

static void list(struct tables *ts, uint8_t *t, size_t len)
{
	ts->addr[ts->n++] = put(ts, t, len);
}

static void root_bridge(struct aml *a, const struct gmem *gm)
{
	aml_begin_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A03");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_name(a, "_BBN");
	aml_int(a, 0);
	aml_begin_crs(a);
	aml_res_bus_range(a, 0, 0);
	aml_res_io(a, PLAT_PCI_CF8_PORT, 8);
	aml_res_io_range(a, 0, PLAT_PCI_CF8_PORT - 1);
	aml_res_io_range(a, PLAT_PCI_CF8_PORT + 8, 0xffff);
	aml_res_mem_range(a, PLAT_PCI_MMIO32_START, PLAT_PCI_MMIO32_END - 1);
	if (gmem_ram_end(gm) <= PLAT_PCI_LOW64_START)
		aml_res_mem_range(a, PLAT_PCI_LOW64_START, PLAT_PCI_LOW64_END - 1);
	aml_res_mem_range(a, PLAT_PCI_MMIO64_START, PLAT_PCI_MMIO64_END - 1);
	aml_end_crs(a);
	aml_end(a);
}

static void serial_port(struct aml *a)
{
	aml_begin_device(a, "COM1");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name(a, "_UID");
	aml_int(a, 1);
	aml_begin_crs(a);
	aml_res_io(a, PLAT_COM1_PORT, 8);
	aml_res_irq(a, PLAT_COM1_IRQ);
	aml_end_crs(a);
	aml_end(a);
}

/* Hardware-reduced machines have no fixed button: a Generic Event Device (§5.6.9) turns its interrupt into a Notify. */
static void power_button_device(struct aml *a)
{
	aml_begin_device(a, "PWRB");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C0C");
	aml_end(a);
	aml_begin_device(a, "GED0");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_begin_crs(a);
	aml_res_irq(a, PLAT_POWER_BUTTON_IRQ);
	aml_end_crs(a);
	aml_begin_method(a, "_EVT", 1, /* serialized= */ true);
	aml_notify(a, "\\_SB_.PWRB", 0x80);
	aml_end(a);
	aml_end(a);
}

static gpa_t put_dsdt(struct tables *ts)
{
	uint8_t t[HDR + AML_MAX] = {0};
	struct aml a = {0};

	aml_begin_scope(&a, "\\_SB_");
	root_bridge(&a, ts->gm);
	serial_port(&a);
	power_button_device(&a);
	aml_end(&a);
	aml_name(&a, "\\_S5_");
	aml_begin_package(&a, 4);
	aml_int(&a, PLAT_SLP_TYP_S5);
	for (int i = 0; i < 3; i++)
		aml_int(&a, 0);
	aml_end(&a);
	if (a.overflow)
		ts->err = -ENOSPC;
	header(t, "DSDT", 2);
	memcpy(t + HDR, a.data, a.len);
	return put(ts, t, HDR + a.len);
}

/* Generic address structure for a byte in port space (§5.2.3.2). */
static void port_register(uint8_t *p, uint16_t port)
{
	p[0] = 1; /* system I/O */
	p[1] = 8; /* bits */
	p[2] = 0;
	p[3] = 1; /* byte access */
	le64_put(p + 4, port);
}

static void put_fadt(struct tables *ts, gpa_t dsdt) /* §5.2.9 */
{
	enum { LEN = 276, NO_VGA = 4, NO_CMOS_CLOCK = 32, WBINVD = BIT(0), RESET_REG = BIT(10) };
	enum { HW_REDUCED = BIT(20) };
	uint8_t t[LEN] = {0};

	header(t, "FACP", 6);
	le32_put(t + 40, dsdt);
	le16_put(t + 109, NO_VGA | NO_CMOS_CLOCK); /* IAPC_BOOT_ARCH: no 8042 either */
	le32_put(t + 112, WBINVD | RESET_REG | HW_REDUCED);
	port_register(t + 116, PLAT_RESET_PORT);
	t[128] = PLAT_RESET_VALUE;
	t[131] = 4; /* minor version */
	le64_put(t + 140, dsdt);
	port_register(t + 244, PLAT_SLEEP_CTL_PORT);
	port_register(t + 256, PLAT_SLEEP_STS_PORT);
	memcpy(t + 268, "WSLX\0\0\0", 8);
	list(ts, t, LEN);
}

static void put_madt(struct tables *ts, const struct acpi_config *cfg) /* §5.2.12 */
{
	uint8_t t[HDR + 8 + 8 * CPU_MAX_VCPUS + 12 + 6 + 16] = {0}, *p = t + HDR;

	header(t, "APIC", 5);
	le32_put(p, PLAT_LAPIC_BASE);
	p += 8; /* flags: no 8259 */
	for (unsigned i = 0; i < cfg->vcpus; i++, p += 8) {
		p[0] = 0; /* processor local APIC */
		p[1] = 8;
		p[2] = i;
		p[3] = i;
		le32_put(p + 4, 1); /* enabled */
	}
	p[0] = 1; /* I/O APIC */
	p[1] = 12;
	p[2] = PLAT_IOAPIC_ID;
	le32_put(p + 4, PLAT_IOAPIC_BASE);
	p += 12;
	p[0] = 4; /* local APIC NMI: LINT1 of every processor */
	p[1] = 6;
	p[2] = 0xff;
	p[5] = 1;
	p += 6;
	if (cfg->mp_mailbox) {
		p[0] = 0x10; /* multiprocessor wake-up */
		p[1] = 16;
		le64_put(p + 8, cfg->mp_mailbox);
		p += 16;
	}
	list(ts, t, p - t);
}

static void put_mcfg(struct tables *ts) /* PCI Firmware Specification 3.0 §4.1.2 */
{
	uint8_t t[HDR + 8 + 16] = {0};

	header(t, "MCFG", 1);
	le64_put(t + HDR + 8, PLAT_PCI_ECAM_BASE);
	t[HDR + 8 + 11] = PLAT_PCI_ECAM_SIZE / 0x100000 - 1; /* last bus */
	list(ts, t, sizeof(t));
}

int acpi_build(struct gmem *gm, gpa_t gpa, size_t size, const struct acpi_config *cfg)
{
	struct tables ts = {.gm = gm, .at = gpa + ALIGN_UP(RSDP_LEN, ALIGN), .end = gpa + size};
	uint8_t xsdt[HDR + 8 * ARRAY_LEN(ts.addr)] = {0}, rsdp[RSDP_LEN] = {0};
	gpa_t dsdt;

	if (cfg->vcpus < 1 || cfg->vcpus > CPU_MAX_VCPUS || size < 2 * RSDP_LEN)
		return -EINVAL;
	dsdt = put_dsdt(&ts);
	put_fadt(&ts, dsdt);
	put_madt(&ts, cfg);
	put_mcfg(&ts);
	header(xsdt, "XSDT", 1);
	for (unsigned i = 0; i < ts.n; i++)
		le64_put(xsdt + HDR + 8 * i, ts.addr[i]);
	le64_put(rsdp + 24, put(&ts, xsdt, HDR + 8 * ts.n));

	memcpy(rsdp, "RSD PTR ", 8); /* §5.2.5.3 */
	memcpy(rsdp + 9, "WSLX  ", 6);
	rsdp[15] = 2;
	le32_put(rsdp + 20, RSDP_LEN);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_LEN);
	if (ts.err < 0)
		return ts.err;
	return gmem_write(gm, gpa, rsdp, sizeof(rsdp));
}
