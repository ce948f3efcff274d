/*
 * The short way for requests that concern an open file or directory: answered here, from its descriptor, and never seen
 * by Python.
 *
 * This library is loaded into the global scope before pyfuse3, so pyfuse3 finds the two functions of libfuse's public
 * interface (fuse_lowlevel.h) that are defined here before libfuse's own. Which descriptors may be read and written is
 * in a table that Python keeps: shortcut.py. The layout of requests is that of linux/fuse.h.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define FUSE_USE_VERSION 35

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

/* What the table says of a descriptor. One that may be kept is as good for the next who reads the file. */
enum { MAY_READ = 1, MAY_WRITE = 2, MAY_KEEP = 4, WAS_KEPT = 8 };

#define DESCRIPTORS (1 << 20)

/* The handle of a directory whose entries the kernel may cache has this bit. */
#define CACHED_DIRECTORY (UINT64_C(1) << 62)

/* What libfuse reads with (FUSE_MAX_MAX_PAGES pages and a header, lib/fuse_lowlevel.c): the kernel refuses less than it
 * was told of in FUSE_INIT. */
#define DATA ((size_t)256 * 4096)
#define ROOM (DATA + 65536)

/* Reads of this size, up to half of the pipe, are spliced: below, copying twice is cheaper; the kernel reads ahead by
 * 128 KiB. An ordinary user's pipes share 64 MiB (pipe(7)). */
enum { SPLICED = 32 << 10, PIPE = 256 << 10 };

/* Requests in a row before Python has a turn, and how long to wait for the next one, in milliseconds. */
enum { TURNS = 256, PATIENCE = 5 };

unsigned char shortcut_allowed[DESCRIPTORS];

/* What Python is to know of, and nobody waits for: a file handle that was released (the count is 0), or look-ups of an
 * inode that the kernel has forgotten. */
#define NOTES (1 << 14)

struct shortcut_note {
	uint64_t number, count;
} shortcut_notes[NOTES];
unsigned shortcut_noted;

/* The bytes that may be written before Python is asked again, and those that stay free of the file system:
 * reserve.py. */
int64_t shortcut_room = INT64_MAX;
uint64_t shortcut_free;

/* Inodes that have no extended attributes, each at its number modulo the size: one that finds its place taken is asked
 * for as ever. */
#define BARE (1 << 17)
uint64_t shortcut_bare[BARE];

/* What is shown of files and directories beside what fstat(2) says of a descriptor of them, each at its inode number
 * modulo the size, as in shortcut_bare. `fd` -1: there is no such file any more. `links`: the link count to show, 0 for
 * the real one. SETTABLE: times may be set without asking, and owners to what they are. WHOLE: what this directory
 * lacks, there is not. */
#define SHOWN (1 << 14)

enum { SETTABLE = 1, WHOLE = 2 };

struct shortcut_shown {
	uint64_t number;
	int32_t fd;
	uint32_t mode, uid, gid, links, may;
} shortcut_shown[SHOWN];

/* Files that nobody has open any more, but whose descriptors are kept: whoever opens one for reading gets that. Python
 * takes them for open. Each is at its inode number modulo the size; `used` since another one wanted its place. Python
 * says how many places there are. */
#define KEPT (1 << 13)

struct shortcut_kept {
	uint64_t number;
	int32_t fd;
	uint32_t used;
} shortcut_kept[KEPT];
unsigned shortcut_places;

/* Whether requests to set an attribute are the longer ones of FUSE_SETXATTR_EXT, which libfuse didn't ask for, and what
 * the last one had more, and for which inode. */
int shortcut_longer;
uint32_t shortcut_setxattr_flags;
uint64_t shortcut_setxattr_inode;

/* How many requests of each kind came, for tests. */
#define OPCODES 64
unsigned shortcut_counts[OPCODES];

/* Whether there was nothing when we last waited. */
int shortcut_idle = 1;

/* How long to wait, in milliseconds: not at all where Python has threads, which can't go on while we do. */
int shortcut_patience = PATIENCE;

static int may(uint64_t handle, int what)
{
	return handle < DESCRIPTORS && (shortcut_allowed[handle] & what);
}

/* An error is a negative errno, as in the protocol. A client that was killed waits for no reply (ENOENT): whether it
 * arrives is no matter. */
static void reply(int device, uint64_t unique, ssize_t result, void *data, size_t size)
{
	struct fuse_out_header header = {.error = result < 0 ? (int32_t)result : 0, .unique = unique};
	struct iovec parts[2] = {{&header, sizeof header}, {data, size}};
	int count = result < 0 || size == 0 ? 1 : 2;

	header.len = sizeof header + (count == 2 ? size : 0);
	while (writev(device, parts, count) == -1 && errno == EINTR)
		;
}

/* Whether so much may be written; then it counts. */
static int take_room(uint64_t size)
{
	if (size > (uint64_t)shortcut_room)
		return 0;
	shortcut_room -= (int64_t)size;
	return 1;
}

/* The same for what Python can't be asked of; it is to look anew for what comes next. */
static int leaves_enough(int descriptor, uint64_t size)
{
	struct statvfs found;

	if (take_room(size))
		return 1;
	shortcut_room = 0;
	return fstatvfs(descriptor, &found) == 0 && found.f_bavail * found.f_frsize >= shortcut_free + size;
}

static int open_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1)
		return 0;
	if (fcntl(ends[1], F_SETPIPE_SZ, PIPE) != -1)
		return 1;
	close(ends[0]), close(ends[1]);
	return 0;
}

static ssize_t checked(ssize_t result)
{
	return result == -1 ? -errno : result;
}

/* Pages go from the file to the device by way of two pipes, and are copied once: the first shows how many come, which
 * the reply begins with. Returns 0 if that can't be done; then nothing was sent. */
static int reply_spliced(int device, uint64_t unique, const struct fuse_read_in *in)
{
	static int file[2], whole[2];
	static int state; /* 0: no pipes yet, 1: they are there, -1: they can't be had */
	struct fuse_out_header header = {.unique = unique};
	loff_t offset = (loff_t)in->offset;
	ssize_t got, moved;

	if (state == 0)
		state = open_pipe(file) && open_pipe(whole) ? 1 : -1;
	if (state < 0)
		return 0;
	got = splice((int)in->fh, &offset, file[1], NULL, in->size, 0);
	if (got <= 0)
		return 0;
	header.len = sizeof header + (uint32_t)got;
	moved = write(whole[1], &header, sizeof header);
	if (moved == sizeof header)
		moved = splice(file[0], NULL, whole[1], NULL, (size_t)got, 0);
	if (moved == got && splice(whole[0], NULL, device, NULL, header.len, 0) == (ssize_t)header.len)
		return 1;
	/* What is left in them would be the beginning of the next reply. */
	close(file[0]), close(file[1]), close(whole[0]), close(whole[1]);
	state = 0;
	return 0;
}

static int answer_read(int device, uint64_t unique, const struct fuse_read_in *in)
{
	static char *data;
	ssize_t got;

	if (!may(in->fh, MAY_READ) || in->size > DATA)
		return 0;
	if (in->size >= SPLICED && in->size <= PIPE / 2 && reply_spliced(device, unique, in))
		return 1;
	if (data == NULL && (data = malloc(DATA)) == NULL)
		return 0;
	got = checked(pread((int)in->fh, data, in->size, (off_t)in->offset));
	reply(device, unique, got, data, got > 0 ? (size_t)got : 0);
	return 1;
}

static void reply_written(int device, uint64_t unique, ssize_t written)
{
	struct fuse_write_out out = {.size = written > 0 ? (uint32_t)written : 0};

	reply(device, unique, written, &out, sizeof out);
}

/* The kernel keeps a written file's times and sends them along (handles.py): what changes data leaves them alone. */
static void put_back_times(uint64_t handle, const struct stat *before)
{
	const struct timespec times[2] = {before->st_atim, before->st_mtim};

	futimens((int)handle, times);
}

static int answer_write(int device, uint64_t unique, const struct fuse_write_in *in, size_t room)
{
	struct stat before;
	ssize_t written;

	if (!may(in->fh, MAY_WRITE) || in->size > room || fstat((int)in->fh, &before) == -1 || !take_room(in->size))
		return 0;
	written = checked(pwrite((int)in->fh, in + 1, in->size, (off_t)in->offset));
	put_back_times(in->fh, &before);
	reply_written(device, unique, written);
	return 1;
}

/* pyfuse3 knows neither of the next two, and libfuse's "no such call" would be for good: so what may not be done is
 * refused here, with the error upon which programs and the kernel do without. */
static int answer_fallocate(int device, uint64_t unique, const struct fuse_fallocate_in *in)
{
	struct stat before;
	ssize_t result = -EOPNOTSUPP;

	if (may(in->fh, MAY_WRITE) && !(in->mode & FALLOC_FL_PUNCH_HOLE) && !leaves_enough((int)in->fh, in->length)) {
		result = -ENOSPC;
	} else if (may(in->fh, MAY_WRITE) && fstat((int)in->fh, &before) == 0) {
		result = checked(fallocate((int)in->fh, (int)in->mode, (off_t)in->offset, (off_t)in->length));
		put_back_times(in->fh, &before);
	}
	reply(device, unique, result, NULL, 0);
	return 1;
}

static int answer_copy(int device, uint64_t unique, const struct fuse_copy_file_range_in *in)
{
	off_t from = (off_t)in->off_in, to = (off_t)in->off_out;
	/* The reply has 32 bits for the size. */
	size_t size = in->len > INT32_MAX ? INT32_MAX & ~(size_t)4095 : in->len;
	struct stat before;
	ssize_t result = -EOPNOTSUPP;

	if (may(in->fh_in, MAY_READ) && may(in->fh_out, MAY_WRITE) && fstat((int)in->fh_out, &before) == 0 &&
	    take_room(size)) {
		result = checked(copy_file_range((int)in->fh_in, &from, (int)in->fh_out, &to, size, 0));
		put_back_times(in->fh_out, &before);
	}
	reply_written(device, unique, result);
	return 1;
}

static int is_bare(uint64_t number)
{
	return number && shortcut_bare[number % BARE] == number;
}

/* For names of the system's there are other errors, and Python knows which; ACLs are asked for so often that it
 * matters. */
static int answer_getxattr(int device, const struct fuse_in_header *header, const char *name, size_t room)
{
	if (!is_bare(header->nodeid) || !memchr(name, 0, room))
		return 0;
	if (!strncmp(name, "system.", 7) && strncmp(name, "system.posix_acl_", 17))
		return 0;
	reply(device, header->unique, -ENODATA, NULL, 0);
	return 1;
}

/* What only we change, the kernel may keep until it is short of memory: a year. */
enum { LASTING = 365 * 86400 };

/* The attributes of what is shown. A file with several names, or none, is Python's to count. */
static int reply_shown(int device, uint64_t unique, const struct shortcut_shown *shown)
{
	struct fuse_attr_out out = {.attr_valid = LASTING};
	struct stat st;

	if (fstat(shown->fd, &st) == -1 || (shown->links == 0 && !S_ISDIR(st.st_mode) && st.st_nlink != 1))
		return 0;
	out.attr = (struct fuse_attr){
		.ino = shown->number,
		.size = (uint64_t)st.st_size,
		.blocks = (uint64_t)st.st_blocks,
		.atime = (uint64_t)st.st_atim.tv_sec,
		.mtime = (uint64_t)st.st_mtim.tv_sec,
		.ctime = (uint64_t)st.st_ctim.tv_sec,
		.atimensec = (uint32_t)st.st_atim.tv_nsec,
		.mtimensec = (uint32_t)st.st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st.st_ctim.tv_nsec,
		.mode = shown->mode,
		.nlink = shown->links ? shown->links : (uint32_t)st.st_nlink,
		.uid = shown->uid,
		.gid = shown->gid,
		.blksize = (uint32_t)st.st_blksize,
	};
	reply(device, unique, 0, &out, sizeof out);
	return 1;
}

static const struct shortcut_shown *find_shown(uint64_t number)
{
	const struct shortcut_shown *shown = &shortcut_shown[number % SHOWN];

	return number && shown->number == number ? shown : NULL;
}

static int answer_getattr(int device, const struct fuse_in_header *header)
{
	const struct shortcut_shown *shown = find_shown(header->nodeid);

	if (shown == NULL)
		return 0;
	if (shown->fd >= 0)
		return reply_shown(device, header->unique, shown);
	reply(device, header->unique, -ENOENT, NULL, 0);
	return 1;
}

/* A name that a directory without layers below lacks stands for nothing. What it has is Python's to look at. */
static int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room)
{
	const struct shortcut_shown *shown = find_shown(header->nodeid);
	struct fuse_entry_out out = {.entry_valid = LASTING};
	struct stat st;

	if (shown == NULL || !(shown->may & WHOLE) || !memchr(name, 0, room))
		return 0;
	if (fstatat(shown->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return 0;
	reply(device, header->unique, 0, &out, sizeof out);
	return 1;
}

static struct timespec time_to_set(uint32_t valid, uint32_t wanted, uint32_t now, uint64_t seconds, uint32_t nanoseconds)
{
	if (!(valid & wanted))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return (struct timespec){(time_t)seconds, nanoseconds};
}

/* Times alone, which the kernel sends along with what it has written, and of files that are gone. st_ctime moves by
 * itself. */
static int answer_times(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in)
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
static int answer_owner(int device, const struct fuse_in_header *header, const struct fuse_setattr_in *in)
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

static int note(uint64_t number, uint64_t count)
{
	if (shortcut_noted == NOTES)
		return 0;
	shortcut_notes[shortcut_noted++] = (struct shortcut_note){number, count};
	return 1;
}

/* Keep a descriptor instead of closing it. Whoever has the place goes if it was of no use meanwhile. Not a file without
 * a name, whose blocks somebody may wait for, nor one with several, which is easily lost sight of. */
static int keep(uint64_t number, uint64_t handle)
{
	struct shortcut_kept *kept;
	struct stat st;

	if (shortcut_places == 0 || !may(handle, MAY_KEEP))
		return 0;
	kept = &shortcut_kept[number % shortcut_places];
	if (kept->number == number)
		return 0;
	if (kept->number && kept->used) {
		kept->used = 0;
		return 0;
	}
	if (fstat((int)handle, &st) == -1 || st.st_nlink != 1 || (kept->number && !note((uint64_t)kept->fd, 0)))
		return 0;
	*kept = (struct shortcut_kept){number, (int32_t)handle, may(handle, WAS_KEPT)};
	return 1;
}

static int answer_open(int device, const struct fuse_in_header *header, const struct fuse_open_in *in)
{
	/* The kernel's O_LARGEFILE and __FMODE_EXEC, on whatever architecture (linux/fs.h, asm-generic/fcntl.h). */
	const uint32_t harmless = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME | 0100000 | 040;
	struct shortcut_kept *kept;
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE};

	if (shortcut_places == 0 || (in->flags & ~harmless) != O_RDONLY)
		return 0;
	kept = &shortcut_kept[header->nodeid % shortcut_places];
	if (kept->number != header->nodeid)
		return 0;
	out.fh = (uint64_t)kept->fd;
	*kept = (struct shortcut_kept){0};
	shortcut_allowed[out.fh] |= WAS_KEPT;
	reply(device, header->unique, 0, &out, sizeof out);
	return 1;
}

/* The handle of a directory that isn't cached is no descriptor, though it may look like one: `known` says whether this
 * handle is ours to release. */
static int answer_release(int device, const struct fuse_in_header *header, uint64_t handle, int known)
{
	if (!known || (!keep(header->nodeid, handle) && !note(handle, 0)))
		return 0;
	reply(device, header->unique, 0, NULL, 0);
	return 1;
}

/* The kernel expects no reply to either of these. No look-ups would read as a release. */
static int answer_forget(uint64_t number, uint64_t lookups)
{
	return lookups == 0 || note(number, lookups);
}

static int answer_forgets(const struct fuse_batch_forget_in *in, size_t room)
{
	const struct fuse_forget_one *each = (const void *)(in + 1);

	if (in->count * sizeof *each > room - sizeof *in || in->count > NOTES - shortcut_noted)
		return 0;
	for (uint32_t number = 0; number < in->count; number++)
		answer_forget(each[number].nodeid, each[number].nlookup);
	return 1;
}

/* Cut out of a request what libfuse doesn't expect in it. Returns its size then. */
static size_t shortened(void *request, size_t size)
{
	struct fuse_in_header *header = request;
	struct fuse_setxattr_in *in = (void *)(header + 1);
	size_t more = sizeof *in - FUSE_COMPAT_SETXATTR_IN_SIZE, begin = sizeof *header + sizeof *in;

	if (!shortcut_longer || size < begin || header->opcode != FUSE_SETXATTR)
		return size;
	shortcut_setxattr_flags = in->setxattr_flags;
	shortcut_setxattr_inode = header->nodeid;
	memmove((char *)in + FUSE_COMPAT_SETXATTR_IN_SIZE, in + 1, size - begin);
	header->len -= (uint32_t)more;
	return size - more;
}

/* Whether a request has been answered. */
static int answered(int device, const void *request, size_t size)
{
	const struct fuse_in_header *header = request;
	const void *body = header + 1;
	size_t room;

	if (size < sizeof *header)
		return 0;
	room = size - sizeof *header;
	if (header->opcode < OPCODES)
		shortcut_counts[header->opcode]++;
	switch (header->opcode) {
	case FUSE_READ:
		return room >= sizeof(struct fuse_read_in) && answer_read(device, header->unique, body);
	case FUSE_WRITE:
		return room >= sizeof(struct fuse_write_in) &&
		       answer_write(device, header->unique, body, room - sizeof(struct fuse_write_in));
	case FUSE_FALLOCATE:
		return room >= sizeof(struct fuse_fallocate_in) && answer_fallocate(device, header->unique, body);
	case FUSE_COPY_FILE_RANGE:
		return room >= sizeof(struct fuse_copy_file_range_in) && answer_copy(device, header->unique, body);
	case FUSE_GETXATTR:
		return room > sizeof(struct fuse_getxattr_in) &&
		       answer_getxattr(device, header, (const char *)body + sizeof(struct fuse_getxattr_in),
				       room - sizeof(struct fuse_getxattr_in));
	case FUSE_OPEN:
		return room >= sizeof(struct fuse_open_in) && answer_open(device, header, body);
	case FUSE_LOOKUP:
		return answer_lookup(device, header, body, room);
	case FUSE_GETATTR:
		return answer_getattr(device, header);
	case FUSE_SETATTR:
		return room >= sizeof(struct fuse_setattr_in) &&
		       (answer_times(device, header, body) || answer_owner(device, header, body));
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR: {
		const struct fuse_release_in *in = body;

		if (room < sizeof *in)
			return 0;
		return answer_release(device, header, in->fh,
				      header->opcode == FUSE_RELEASE ? may(in->fh, MAY_READ)
								     : (in->fh & CACHED_DIRECTORY) != 0);
	}
	case FUSE_FORGET:
		return room >= sizeof(struct fuse_forget_in) &&
		       answer_forget(header->nodeid, ((const struct fuse_forget_in *)body)->nlookup);
	case FUSE_BATCH_FORGET:
		return room >= sizeof(struct fuse_batch_forget_in) && answer_forgets(body, room);
	default:
		return 0;
	}
}

/* In libfuse's place: the next request that is not answered here. Returns its size, 0 at the end, a negative errno;
 * -EINTR for "nothing now", upon which pyfuse3 waits anew. */
int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buffer)
{
	int device = fuse_session_fd(session);
	struct pollfd wanted = {.fd = device, .events = POLLIN};

	if (buffer->mem == NULL && (buffer->mem = malloc(ROOM)) == NULL)
		return -ENOMEM;
	for (int turn = 0; turn < TURNS; turn++) {
		ssize_t size;

		shortcut_idle = poll(&wanted, 1, shortcut_patience) != 1 || wanted.revents != POLLIN;
		if (shortcut_idle)
			break;
		size = read(device, buffer->mem, ROOM);
		if (size == -1) {
			if (errno == ENODEV) { /* unmounted */
				fuse_session_exit(session);
				return 0;
			}
			/* ENOENT: the request was interrupted before we had it (fuse_dev_do_read in fs/fuse/dev.c). */
			return errno == ENOENT || errno == EAGAIN ? -EINTR : -errno;
		}
		if (!answered(device, buffer->mem, (size_t)size)) {
			buffer->size = shortened(buffer->mem, (size_t)size);
			buffer->flags = 0;
			return (int)buffer->size;
		}
	}
	return -EINTR;
}

/* In libfuse's place: pyfuse3 has no way to say that a directory's entries may be cached. */
int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info)
{
	static int (*next)(fuse_req_t, const struct fuse_file_info *);
	struct fuse_file_info changed = *info;

	if (next == NULL)
		next = (int (*)(fuse_req_t, const struct fuse_file_info *))dlsym(RTLD_NEXT, "fuse_reply_open");
	if (info->fh & CACHED_DIRECTORY)
		changed.cache_readdir = changed.keep_cache = 1;
	return next(request, &changed);
}
