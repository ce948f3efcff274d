/*
 * The short way for requests that concern an open file or directory: answered here, from its descriptor, and never seen
 * by Python.
 *
 * This library is loaded into the global scope before pyfuse3, so pyfuse3 finds the two functions of libfuse's public
 * interface (fuse_lowlevel.h) that are defined here before libfuse's own. Which descriptors may be read and written is
 * in a table that Python keeps: shortcut.py. The layout of requests is that of linux/fuse.h.
 *
 * Here: the way of requests, opening and closing. shortcut_names.c: look-ups; shortcut_listing.c: directories;
 * shortcut_stubs.c: files that only we know of; shortcut_data.c: data; shortcut_attributes.c: what is shown besides.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define FUSE_USE_VERSION 35

#include "shortcut.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* How long to look for the next request before we let ourselves be woken, in microseconds, and how far to remember what
 * that was worth; loop.py has the same. */
enum { GAP = 60, WORTH = 16 };

/* Requests in a row before Python has a turn, and how long to wait for the next one, in milliseconds. */
enum { TURNS = 256, PATIENCE = 5 };

unsigned char shortcut_allowed[DESCRIPTORS];

/* What Python is to know of, and nobody waits for: a file handle that was released (the count is 0), look-ups of an
 * inode that the kernel has forgotten, with OPENED the descriptor by which one was opened, or with MODE_SET its
 * permissions. */
#define NOTES (1 << 14)
#define OPENED (UINT64_C(1) << 63)
#define MODE_SET (UINT64_C(1) << 62)

struct shortcut_note {
	uint64_t number, count;
} shortcut_notes[NOTES];
unsigned shortcut_noted;

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

/* Files that stay as they are: whoever opens one for reading gets `name` in the directory `fd`, as long as that is the
 * descriptor that it was (`serial`). Each is at its inode number modulo the size. `flags`: for openat(2). */
#define OFFERS (1 << 14)
#define NAME_ROOM 44

struct shortcut_offered {
	uint64_t number;
	int32_t fd;
	uint32_t serial, flags;
	char name[NAME_ROOM];
} shortcut_offered[OFFERS];
_Static_assert(sizeof *shortcut_offered == 64, "shortcut.py");

/* How often each descriptor of a directory was closed. */
uint32_t shortcut_serials[DESCRIPTORS];

/* How many files may be opened before Python is asked for room. */
unsigned shortcut_openable;

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

int may(uint64_t handle, int what)
{
	return handle < DESCRIPTORS && (shortcut_allowed[handle] & what);
}

/* An error is a negative errno, as in the protocol. A client that was killed waits for no reply (ENOENT): whether it
 * arrives is no matter. */
void reply(int device, uint64_t unique, ssize_t result, void *data, size_t size)
{
	struct fuse_out_header header = {.error = result < 0 ? (int32_t)result : 0, .unique = unique};
	struct iovec parts[2] = {{&header, sizeof header}, {data, size}};
	int count = result < 0 || size == 0 ? 1 : 2;

	header.len = sizeof header + (count == 2 ? size : 0);
	while (writev(device, parts, count) == -1 && errno == EINTR)
		;
}

static int note(uint64_t number, uint64_t count)
{
	if (shortcut_noted == NOTES)
		return 0;
	shortcut_notes[shortcut_noted++] = (struct shortcut_note){number, count};
	return 1;
}

int note_mode(uint64_t number, uint32_t mode)
{
	return note(number, MODE_SET | mode);
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

/* Returns a descriptor, -1 if Python is to see to it. */
static int take_kept(uint64_t number)
{
	struct shortcut_kept *kept = &shortcut_kept[number % shortcut_places];
	int fd = kept->fd;

	if (kept->number != number)
		return -1;
	*kept = (struct shortcut_kept){0};
	shortcut_allowed[fd] |= WAS_KEPT;
	return fd;
}

/* Returns a descriptor, -1 if Python is to see to it. */
static int open_offered(uint64_t number)
{
	const struct shortcut_offered *offered = &shortcut_offered[number % OFFERS];
	int fd;

	if (offered->number != number || offered->serial != shortcut_serials[offered->fd])
		return -1;
	if (shortcut_openable == 0 || shortcut_noted == NOTES)
		return -1;
	fd = openat(offered->fd, offered->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (int)offered->flags);
	if (fd >= DESCRIPTORS) {
		close(fd);
		return -1;
	}
	if (fd >= 0) {
		note(number, OPENED | (uint64_t)fd);
		shortcut_openable--;
		shortcut_allowed[fd] = MAY_READ | MAY_KEEP;
	}
	return fd;
}

static int answer_open(int device, const struct fuse_in_header *header, const struct fuse_open_in *in)
{
	/* The kernel's O_LARGEFILE and __FMODE_EXEC, on whatever architecture (linux/fs.h, asm-generic/fcntl.h). */
	const uint32_t harmless = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME | 0100000 | 040;
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE};
	int fd;

	if (shortcut_places == 0 || (in->flags & ~harmless) != O_RDONLY)
		return 0;
	fd = take_kept(header->nodeid);
	if (fd < 0)
		fd = open_offered(header->nodeid);
	if (fd < 0)
		fd = open_stub(header->nodeid);
	if (fd < 0)
		return 0;
	out.fh = (uint64_t)fd;
	reply(device, header->unique, 0, &out, sizeof out);
	return 1;
}

/* The handle of a directory that isn't cached is no descriptor, though it may look like one: `known` says whether this
 * handle is ours to release. */
static int answer_release(int device, const struct fuse_in_header *header, uint64_t handle, int known)
{
	if (!known || (!close_stub(header->nodeid, handle) && !keep(header->nodeid, handle) && !note(handle, 0)))
		return 0;
	reply(device, header->unique, 0, NULL, 0);
	return 1;
}

static int answer_releasedir(int device, const struct fuse_in_header *header, uint64_t handle)
{
	if (forget_directory(handle))
		return answer_release(device, header, handle, (handle & CACHED_DIRECTORY) != 0);
	reply(device, header->unique, 0, NULL, 0);
	return 1;
}

/* The kernel expects no reply to either of these. No look-ups would read as a release. */
static int answer_forget(uint64_t number, uint64_t lookups)
{
	return lookups == 0 || forget_stub(number, lookups) || note(number, lookups);
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

static int64_t microseconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

/* Wait for a request; whether one is there. A client that does one thing after another has its next request in some
 * microseconds, and to be woken for it takes as long: so we look again and again, as long as that is of use mostly (a
 * success weighs 1, a failure 4). Whoever else wants the processor has it meanwhile. */
static int comes(int device)
{
	static int worth = WORTH;
	struct pollfd wanted = {.fd = device, .events = POLLIN};
	int there = poll(&wanted, 1, 0);

	if (there == 0 && shortcut_patience > 0) {
		const int looks = worth > 0;
		const int64_t begin = microseconds(), gap = looks ? GAP : 2 * GAP;

		while (looks && there == 0 && microseconds() - begin < GAP) {
			sched_yield();
			there = poll(&wanted, 1, 0);
		}
		if (there == 0)
			there = poll(&wanted, 1, shortcut_patience);
		worth += microseconds() - begin < gap ? 1 : -4;
		worth = worth > WORTH ? WORTH : worth < -WORTH ? -WORTH : worth;
	}
	return there == 1 && wanted.revents == POLLIN;
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
	case FUSE_READLINK:
		return answer_readlink(device, header);
	case FUSE_GETATTR:
		return answer_getattr(device, header);
	case FUSE_SETATTR:
		return room >= sizeof(struct fuse_setattr_in) &&
		       (answer_times(device, header, body) || answer_owner(device, header, body) ||
			answer_mode(device, header, body));
	case FUSE_RELEASE: {
		const struct fuse_release_in *in = body;

		return room >= sizeof *in && answer_release(device, header, in->fh, may(in->fh, MAY_READ));
	}
	case FUSE_OPENDIR:
		return answer_opendir(device, header);
	case FUSE_READDIRPLUS:
		return room >= sizeof(struct fuse_read_in) && answer_readdir(device, header, body);
	case FUSE_RELEASEDIR:
		return room >= sizeof(struct fuse_release_in) &&
		       answer_releasedir(device, header, ((const struct fuse_release_in *)body)->fh);
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

	if (buffer->mem == NULL && (buffer->mem = malloc(ROOM)) == NULL)
		return -ENOMEM;
	for (int turn = 0; turn < TURNS; turn++) {
		ssize_t size;

		shortcut_idle = !comes(device);
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
