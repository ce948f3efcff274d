/* What the parts of the compiled helper have in common: shortcut.c says what it is for. */
#ifndef SHORTCUT_H
#define SHORTCUT_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Descriptors that we say anything of. */
#define DESCRIPTORS (1 << 20)

/* What the table says of a descriptor. One that may be kept is as good for the next who reads the file. */
enum { MAY_READ = 1, MAY_WRITE = 2, MAY_KEEP = 4, WAS_KEPT = 8 };

/* What libfuse reads with (FUSE_MAX_MAX_PAGES pages and a header, lib/fuse_lowlevel.c): the kernel refuses less than it
 * was told of in FUSE_INIT. */
#define DATA ((size_t)256 * 4096)
#define ROOM (DATA + 65536)

/* What only we change, the kernel may keep until it is short of memory: a year. */
enum { LASTING = 365 * 86400 };

/* Where an owner is recorded, as in ownership.py. */
#define RECORD "user.containers.override_stat"

/* The handle of a directory whose entries the kernel may cache has this bit. */
#define CACHED_DIRECTORY (UINT64_C(1) << 62)

/* What is shown of files and directories beside what fstat(2) says of a descriptor of them. `above`: the directory that
 * a directory is in. `fd` -1: there is no such file any more. `links`: the link count to show, 0 for the real one.
 * `may`: see below. */
struct shortcut_shown {
	uint64_t number, device, above;
	int32_t fd;
	uint32_t mode, uid, gid, links, may;
};
_Static_assert(sizeof(struct shortcut_shown) == 48, "shortcut.py");

/* SETTABLE: times may be set without asking, and owners to what they are. MODED: so may permissions, as long as the
 * file's own can show them and no record is of others. Of a directory: LISTED: nobody but us changes what is in it, and
 * it may be opened without asking. WHOLE: what it lacks, there is not. FINDABLE: what it has is there, as it is;
 * RECORDED: but for what a record says; OFFERED: its files may be opened for reading without asking. */
enum { SETTABLE = 1, WHOLE = 2, LISTED = 4, MODED = 8, FINDABLE = 16, RECORDED = 32, OFFERED = 64 };

/* A file of a layer that the kernel knows of and Python doesn't yet: which one it is, its directory's number and its
 * name there, how many look-ups are to be taken back, how often it is open, and whether it is our user's own. */
struct stub {
	struct stub *next;
	uint64_t number, device, real, parent;
	uint32_t lookups, opens, own;
	char name[];
};

/* As shortcut.c says. */
extern unsigned char shortcut_allowed[DESCRIPTORS];
extern unsigned shortcut_openable;

/* The library is loaded into the global scope: only what Python or pyfuse3 looks for may be found there. */
#pragma GCC visibility push(hidden)

/* shortcut.c */
int may(uint64_t handle, int what);
int note_mode(uint64_t number, uint32_t mode); /* whether there was room for it */
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
ssize_t get_attribute(int directory, const char *name, const char *attribute, char *value, size_t room); /* getxattr(2) */
struct shortcut_shown *find_shown(uint64_t number); /* NULL if nothing is shown of it */
struct fuse_attr attributes(uint64_t number, const struct stat *st, uint32_t mode, uint32_t uid, uint32_t gid);

/* shortcut_names.c: the same */
int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room);
int answer_readlink(int device, const struct fuse_in_header *header);
int is_passed_over(const char *name);
int is_too_long(const char *name);
uint64_t number_of(const struct stat *st); /* 0 if only Python knows */
/* Whether a file may be told of here; then its attributes. `st`: what is at the name in a FINDABLE directory. */
int describe(const struct shortcut_shown *directory, const char *name, const struct stat *st, struct fuse_attr *found);
/* The directory that a stub is in; NULL if only Python knows. What is there is `st` then. */
const struct shortcut_shown *place_of(const struct stub *stub, struct stat *st);

/* shortcut_listing.c: the same */
int answer_opendir(int device, const struct fuse_in_header *header);
int answer_readdir(int device, const struct fuse_in_header *header, const struct fuse_read_in *in);
int forget_directory(uint64_t handle); /* whether Python has to hear of its end */

/* shortcut_stubs.c */
struct stub *find_stub(uint64_t number); /* NULL if there is none */
/* Count a look-up of a file at a place. Whether it counts: not if Python has to know. */
int look_up_stub(uint64_t number, const struct stat *st, uint64_t parent, const char *name);
int forget_stub(uint64_t number, uint64_t lookups); /* whether there was one */
int open_stub(uint64_t number);			    /* a descriptor, -1 if Python is to see to it */
int close_stub(uint64_t number, uint64_t handle);   /* whether that was one's */

#pragma GCC visibility pop

#endif
