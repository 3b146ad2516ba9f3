/* SPDX-License-Identifier: MIT */
/* How wslx diag shows to people what wslxd answers (daemon/diag.h). */
#ifndef WSLX_CLI_DIAG_H
#define WSLX_CLI_DIAG_H

#include "lib/json/json.h"

void diag_print_list(struct json_object *machines);
void diag_print_timeline(struct json_object *stages);
void diag_print_registers(struct json_object *vcpus);

#endif
