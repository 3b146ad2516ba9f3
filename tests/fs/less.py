# SPDX-License-Identifier: MIT
"""What our file servers cannot keep of the cases in posix.py, and why: tests expect these failures and no others, bench/posix prints
the reasons, and docs/differences.md has them."""

SECONDS = "times that are set are of whole seconds"
OWNER = "nobody but the owner of the mount may look into it"
TMPFILE = "no O_TMPFILE"
ONE_ID = "without privileges a process has the number of its user only"

# 9P2000.L, or Linux's client of it, whatever the server
NINE = {
    "links_keep_their_text": SECONDS,
    "rename_flags": "no flags of renameat2(2)",
    "an_open_file_outlives_its_name": SECONDS,
    "times_change_when_they_should": SECONDS,
    "a_file_without_a_name_gets_one": TMPFILE,
    "holes_are_holes": "no SEEK_HOLE",
    "fallocate_makes_and_punches": "no fallocate(2)",
    "mmap_and_write_agree": "read(2) goes past what mmap(2) has cached",
    "locks_of_both_kinds": "flock(2) is a lock of POSIX, which another one of the same process excludes",
}

# wslx-mount: the cases that become other users, and what libfuse lacks
MOUNT = {
    "a_file_without_a_name_gets_one": TMPFILE,
    "the_umask_and_modes_of_other_users": OWNER,
    "what_a_user_may_not": OWNER,
    "groups_count": OWNER,
    "the_sticky_bit": OWNER,
    "writing_takes_set_uid_away": OWNER,
    "chmod_by_who_is_not_in_the_group_loses_set_gid": OWNER,
    "access_control_lists": OWNER,
}

# as a user without privileges, whom a user namespace calls root
MOUNT_USER = {
    **MOUNT,
    "links_keep_their_text": ONE_ID,
    "an_open_file_outlives_its_name": ONE_ID,
    "chown_takes_set_uid_away": ONE_ID,
    "special_files_of_all_kinds": "devices are made by root only",
}

# What a server without privileges cannot do, and does not claim to: give files away, make devices, trusted.* attributes.
OWNERS = {"links_keep_their_text", "special_files_of_all_kinds", "an_open_file_outlives_its_name", "the_umask_and_modes_of_other_users",
          "groups_count", "the_sticky_bit", "writing_takes_set_uid_away", "chown_takes_set_uid_away",
          "chmod_by_who_is_not_in_the_group_loses_set_gid"}
# With metadata that is kept beside the file, but for links, which have no attributes, and for ACLs, which are the file's own.
BESIDE = {"links_keep_their_text", "the_umask_and_modes_of_other_users", "access_control_lists"}

# by bench/posix's names
LESS = {"virtiofs": {}, "9p": NINE, "mount": MOUNT, "mount-user": MOUNT_USER}
