/* Requests for what is shown of files, beside their data: shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define PATH_ROOM 320

/* Inodes that have no extended attributes, each at its number modulo the size: one that finds its place taken is asked
 * for as ever. */
#define BARE (1 << 17)
uint64_t shortcut_bare[BARE];

/* Each at its inode number modulo the size, as in shortcut_bare. */
#define SHOWN (1 << 14)
struct shortcut_shown shortcut_shown[SHOWN];

static int is_bare(uint64_t number)
{
	return number && shortcut_bare[number % BARE] == number;
}

/* A path to a file in a directory, for the calls that take no descriptor of that (all of xattr(7)). */
static void put_path(char path[PATH_ROOM], int directory, const char *name)
{
	snprintf(path, PATH_ROOM, "/proc/self/fd/%d/%s", directory, name);
}

ssize_t get_attribute(int directory, const char *name, const char *attribute, char *value, size_t room)
{
	char path[PATH_ROOM];

	put_path(path, directory, name);
	return lgetxattr(path, attribute, value, room);
}

/* Whether a file has none but perhaps a record, which isn't shown. */
static int is_bare_stub(const struct stub *stub)
{
	static char names[1 << 16]; /* XATTR_LIST_MAX, linux/limits.h */
	char path[PATH_ROOM];
	const struct shortcut_shown *directory;
	struct stat st;
	ssize_t size;

	if (stub == NULL || (directory = place_of(stub, &st)) == NULL)
		return 0;
	put_path(path, directory->fd, stub->name);
	size = llistxattr(path, names, sizeof names);
	return size == 0 || (size == sizeof RECORD && !memcmp(names, RECORD, sizeof RECORD));
}

/* For names of the system's there are other errors, and Python knows which; ACLs are asked for so often that it
 * matters. */
int answer_getxattr(int device, const struct fuse_in_header *header, const char *name, size_t room)
{
	if (!memchr(name, 0, room) || !(is_bare(header->nodeid) || is_bare_stub(find_stub(header->nodeid))))
		return 0;
	if (!strncmp(name, "system.", 7) && strncmp(name, "system.posix_acl_", 17))
		return 0;
	reply(device, header->unique, -ENODATA, NULL, 0);
	return 1;
}

struct fuse_attr attributes(uint64_t number, const struct stat *st, uint32_t mode, uint32_t uid, uint32_t gid)
{
	return (struct fuse_attr){
		.ino = number,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = uid,
		.gid = gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

/* The attributes of what is shown. A file with several names, or none, is Python's to count. */
static int reply_shown(int device, uint64_t unique, const struct shortcut_shown *shown)
{
	struct fuse_attr_out out = {.attr_valid = LASTING};
	struct stat st;

	if (fstat(shown->fd, &st) == -1 || (shown->links == 0 && !S_ISDIR(st.st_mode) && st.st_nlink != 1))
		return 0;
	out.attr = attributes(shown->number, &st, shown->mode, shown->uid, shown->gid);
	if (shown->links)
		out.attr.nlink = shown->links;
	reply(device, unique, 0, &out, sizeof out);
	return 1;
}

static int reply_stub(int device, uint64_t unique, const struct stub *stub)
{
	struct fuse_attr_out out = {.attr_valid = LASTING};
	const struct shortcut_shown *directory;
	struct stat st;

	if (stub == NULL || (directory = place_of(stub, &st)) == NULL || !describe(directory, stub->name, &st, &out.attr))
		return 0;
	reply(device, unique, 0, &out, sizeof out);
	return 1;
}

struct shortcut_shown *find_shown(uint64_t number)
{
	struct shortcut_shown *shown = &shortcut_shown[number % SHOWN];

	return number && shown->number == number ? shown : NULL;
}

int answer_getattr(int device, const struct fuse_in_header *header)
{
	const struct shortcut_shown *shown = find_shown(header->nodeid);

	if (shown == NULL)
		return reply_stub(device, header->unique, find_stub(header->nodeid));
	if (shown->fd >= 0)
		return reply_shown(device, header->unique, shown);
	reply(device, header->unique, -ENOENT, NULL, 0);
	return 1;
}

static struct timespec time_to_set(uint32_t valid, uint32_t wanted, uint32_t now, uint64_t seconds,
				   uint32_t nanoseconds)
{
	if (!(valid & wanted))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return (struct timespec){(time_t)seconds, nanoseconds};
}

/* Times alone, which the kernel sends along with what it has written, and of files that are gone. st_ctime moves by
 * itself. */
int answer_times(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in)
{
	const uint32_t others = ~(uint32_t)(FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW | FATTR_CTIME |
					    FATTR_FH | FATTR_LOCKOWNER);
	const struct shortcut_shown *shown = find_shown(header->nodeid);
	const struct timespec times[2] = {
		time_to_set(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_to_set(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	if (shown == NULL || !(shown->may & SETTABLE) || in->valid & others || !(in->valid & (FATTR_ATIME | FATTR_MTIME)))
		return 0;
	if (shown->fd < 0) {
		reply(device, header->unique, -ENOENT, NULL, 0);
		return 1;
	}
	return futimens(shown->fd, times) == 0 && reply_shown(device, header->unique, shown);
}

/* An owner that is the owner already, which whoever unpacks an archive sets of each file: st_ctime alone moves. Setuid,
 * setgid and capabilities would go. */
int answer_owner(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in)
{
	const uint32_t others =
		~(uint32_t)(FATTR_UID | FATTR_GID | FATTR_CTIME | FATTR_FH | FATTR_LOCKOWNER | FATTR_KILL_SUIDGID);
	const struct shortcut_shown *shown = find_shown(header->nodeid);
	struct stat st;

	if (shown == NULL || shown->fd < 0 || !(shown->may & SETTABLE) || shown->mode & (S_ISUID | S_ISGID))
		return 0;
	if (in->valid & others || !(in->valid & (FATTR_UID | FATTR_GID)) || !is_bare(header->nodeid))
		return 0;
	if ((in->valid & FATTR_UID && in->uid != shown->uid) || (in->valid & FATTR_GID && in->gid != shown->gid))
		return 0;
	return fstat(shown->fd, &st) == 0 && fchmod(shown->fd, st.st_mode & 07777) == 0 &&
	       reply_shown(device, header->unique, shown);
}

/* Permissions that the file itself can have: what it can't, Python records beside it (ownership.py). No ACL is to
 * follow them. */
int answer_mode(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in)
{
	const uint32_t others = ~(uint32_t)(FATTR_MODE | FATTR_CTIME | FATTR_FH | FATTR_LOCKOWNER);
	struct shortcut_shown *shown = find_shown(header->nodeid);
	const uint32_t mode = in->mode & 07777;

	if (shown == NULL || shown->fd < 0 || !(shown->may & MODED) || in->valid & others || !(in->valid & FATTR_MODE))
		return 0;
	if (mode & 07000 || (mode & 0600) != 0600 || !is_bare(header->nodeid))
		return 0;
	if (fgetxattr(shown->fd, RECORD, NULL, 0) != -1 || errno != ENODATA || !note_mode(header->nodeid, mode))
		return 0;
	if (fchmod(shown->fd, mode) == -1)
		return 0;
	shown->mode = (shown->mode & S_IFMT) | mode;
	return reply_shown(device, header->unique, shown);
}
