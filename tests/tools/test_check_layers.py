# SPDX-License-Identifier: MIT
"""tools/check-layers finds what it is for."""
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPDX = "/* SPDX-License-Identifier: MIT */\n"


def check(tmp_path, path, text):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    r = subprocess.run([sys.executable, f"{ROOT}/tools/check-layers", str(tmp_path)], capture_output=True, text=True, check=False)
    return r.returncode, r.stdout


@pytest.mark.parametrize("path,text", [
    ("vmm/core/x.c", '#include "vmm/virtio/queue.h"\n'),
    ("vmm/core/x.c", '#include "vmm/cpu/kvm/kvm.h"\n'),
    ("vmm/chip/x.c", "#include <unistd.h>\n"),
    ("vmm/scsi/x.h", "#include <linux/fs.h>\n"),
    ("vmm/virtio/x.c", "#include <sys/mman.h>\n"),
    ("vmm/boot/x.c", "int f(void)\n{\n\treturn eventfd(0, 0);\n}\n"),
    ("vmm/cpu/soft/x.c", '#include "vmm/cpu/kvm/kvm.h"\n'),
    ("lib/base/x.c", '#include "lib/json/json.h"\n'),
    ("cli/x.c", '#include "daemon/registry.h"\n'),
    ("daemon/x.c", '#include "vmm/core/vm.h"\n'),
    ("daemon/test-x.c", '#include "vmm/core/vm.h"\n'),
    ("guest/x.c", '#include "lib/image/tar.h"\n'),
    ("include/wslx/abi/x.h", "#include <sys/types.h>\n"),
    ("vmm/core/x.c", '#include "gmem.h"\n'),
    ("vmm/core/x.c", "int x;\n" * 1600),
])
def test_refused(tmp_path, path, text):
    status, out = check(tmp_path, path, SPDX + text)
    assert status == 1 and f"{path}:" in out and "1 problems" in out


@pytest.mark.parametrize("path,text", [
    ("vmm/virtio/x.c", '#include <sys/uio.h>\n#include "vmm/scsi/scsi.h"\n#include "lib/os/mem.h"\n'),
    ("vmm/main.c", '#include <unistd.h>\n#include "vmm/virtio/x.h"\n#include "lib/ctl/ctl.h"\n'),
    ("vmm/chip/test-x.c", "#include <unistd.h>\n"),
    ("vmm/core/x.c", "/* like mmap(2), or mmap() */\nint f(void)\n{\n\treturn g(\"mmap(\");\n}\n"),
    ("guest/x.c", '#include <sys/mount.h>\n#include <wslx/abi/proto.h>\n'),
])
def test_allowed(tmp_path, path, text):
    status, out = check(tmp_path, path, SPDX + text)
    assert status == 0, out


def test_no_licence(tmp_path):
    assert check(tmp_path, "cli/x.c", "int x;\n")[0] == 1


def test_nothing_to_check_is_a_failure(tmp_path):
    assert check(tmp_path, "README", "")[0] == 1
