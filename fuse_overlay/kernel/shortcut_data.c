/* Requests for the data of open files: shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Reads of this size, up to half of the pipe, are spliced: below, copying twice is cheaper; the kernel reads ahead by
 * 128 KiB. An ordinary user's pipes share 64 MiB (pipe(7)). */
enum { SPLICED = 32 << 10, PIPE = 256 << 10 };

/* The bytes that may be written before Python is asked again, and those that stay free of the file system:
 * reserve.py. */
int64_t shortcut_room = INT64_MAX;
uint64_t shortcut_free;

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

int answer_read(int device, uint64_t unique, const struct fuse_read_in *in)
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

int answer_write(int device, uint64_t unique, const struct fuse_write_in *in, size_t room)
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
int answer_fallocate(int device, uint64_t unique, const struct fuse_fallocate_in *in)
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

int answer_copy(int device, uint64_t unique, const struct fuse_copy_file_range_in *in)
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
