# SPDX-License-Identifier: MIT
"""What our file servers cannot keep of the cases in posix.py, and why: the tests expect these, bench/posix prints the reasons, and
docs/differences.md has them."""

SECONDS = "times that are set are of whole seconds"
# 9P2000.L, or Linux's client of it, whatever the server
NINE = {
    "links_keep_their_text": SECONDS,
    "an_open_file_outlives_its_name": SECONDS,
    "times_change_when_they_should": SECONDS,
    "a_file_without_a_name_gets_one": "no O_TMPFILE",
    "holes_are_holes": "no SEEK_HOLE",
    "fallocate_makes_and_punches": "no fallocate(2)",
    "mmap_and_write_agree": "read(2) goes past what mmap(2) has cached",
    "extended_attributes": "an attribute without a value is one that is removed",
    "locks_of_both_kinds": "flock(2) is a lock of POSIX, which another one of the same process excludes",
}
# by bench/posix's names
LESS = {"virtiofs": {}, "9p": NINE, "mount": {}, "mount-user": {}}
