/* What the parts of the compiled helper have in common: shortcut.c says what it is for. */
#ifndef SHORTCUT_H
#define SHORTCUT_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* What the table says of a descriptor. One that may be kept is as good for the next who reads the file. */
enum { MAY_READ = 1, MAY_WRITE = 2, MAY_KEEP = 4, WAS_KEPT = 8 };

/* What libfuse reads with (FUSE_MAX_MAX_PAGES pages and a header, lib/fuse_lowlevel.c): the kernel refuses less than it
 * was told of in FUSE_INIT. */
#define DATA ((size_t)256 * 4096)
#define ROOM (DATA + 65536)

/* What only we change, the kernel may keep until it is short of memory: a year. */
enum { LASTING = 365 * 86400 };

/* Longer names are Python's to see to. */
#define NAME_ROOM 44

/* Where an owner is recorded, as in ownership.py. */
#define RECORD "user.containers.override_stat"

/* What is shown of files and directories beside what fstat(2) says of a descriptor of them. `fd` -1: there is no such
 * file any more. `links`: the link count to show, 0 for the real one. `may`: see below. */
struct shortcut_shown {
	uint64_t number, device;
	int32_t fd;
	uint32_t mode, uid, gid, links, may;
};
_Static_assert(sizeof(struct shortcut_shown) == 40, "shortcut.py");

/* SETTABLE: times may be set without asking, and owners to what they are. MODED: so may permissions, as long as the
 * file's own can show them and no record is of others. Of a directory: LISTED: nobody but us changes what is in it, and
 * it may be opened without asking. WHOLE: what it lacks, there is not. FINDABLE: what it has is there, as it is;
 * RECORDED: but for what a record says; OFFERED: its files may be opened for reading without asking. */
enum { SETTABLE = 1, WHOLE = 2, LISTED = 4, MODED = 8, FINDABLE = 16, RECORDED = 32, OFFERED = 64 };

/* The library is loaded into the global scope: only what Python or pyfuse3 looks for may be found there. */
#pragma GCC visibility push(hidden)

/* shortcut.c */
int may(uint64_t handle, int what);
int note_mode(uint64_t number, uint32_t mode);	   /* whether there was room for it */
int note_found(uint64_t number, unsigned place); /* the same */
void offer(uint64_t number, int directory, const char *name, int flags);
void reply(int device, uint64_t unique, ssize_t result, void *data, size_t size);

/* shortcut_data.c: each returns whether the request has been answered */
int answer_read(int device, uint64_t unique, const struct fuse_read_in *in);
int answer_write(int device, uint64_t unique, const struct fuse_write_in *in, size_t room);
int answer_fallocate(int device, uint64_t unique, const struct fuse_fallocate_in *in);
int answer_copy(int device, uint64_t unique, const struct fuse_copy_file_range_in *in);

/* shortcut_attributes.c: the same */
int answer_getxattr(int device, const struct fuse_in_header *header, const char *name, size_t room);
int answer_getattr(int device, const struct fuse_in_header *header);
int answer_times(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in);
int answer_mode(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in);
int answer_owner(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in);
struct shortcut_shown *find_shown(uint64_t number); /* NULL if nothing is shown of it */
struct fuse_attr attributes(uint64_t number, const struct stat *st, uint32_t mode, uint32_t uid, uint32_t gid);

/* shortcut_names.c: the same */
int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room);

#pragma GCC visibility pop

#endif
