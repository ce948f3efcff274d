/* What the parts of the compiled helper have in common: shortcut.c says what it is for. */
#ifndef SHORTCUT_H
#define SHORTCUT_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the table says of a descriptor. One that may be kept is as good for the next who reads the file. */
enum { MAY_READ = 1, MAY_WRITE = 2, MAY_KEEP = 4, WAS_KEPT = 8 };

/* What libfuse reads with (FUSE_MAX_MAX_PAGES pages and a header, lib/fuse_lowlevel.c): the kernel refuses less than it
 * was told of in FUSE_INIT. */
#define DATA ((size_t)256 * 4096)
#define ROOM (DATA + 65536)

/* The library is loaded into the global scope: only what Python or pyfuse3 looks for may be found there. */
#pragma GCC visibility push(hidden)

/* shortcut.c */
int may(uint64_t handle, int what);
void reply(int device, uint64_t unique, ssize_t result, void *data, size_t size);

/* shortcut_data.c: each returns whether the request has been answered */
int answer_read(int device, uint64_t unique, const struct fuse_read_in *in);
int answer_write(int device, uint64_t unique, const struct fuse_write_in *in, size_t room);
int answer_fallocate(int device, uint64_t unique, const struct fuse_fallocate_in *in);
int answer_copy(int device, uint64_t unique, const struct fuse_copy_file_range_in *in);

/* shortcut_attributes.c: the same */
int answer_getxattr(int device, const struct fuse_in_header *header, const char *name, size_t room);
int answer_getattr(int device, const struct fuse_in_header *header);
int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room);
int answer_times(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in);
int answer_owner(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in);

#pragma GCC visibility pop

#endif
