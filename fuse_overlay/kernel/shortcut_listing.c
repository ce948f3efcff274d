/* Directories that only we change: opening them, and listing those whose files stay as they are: shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Directories that are open: Python knows of those that it has opened or read. Each is at its handle modulo the
 * size. */
#define DIRECTORIES (1 << 10)
#define OPENED_HERE (UINT64_C(1) << 61)

struct shortcut_directory {
	uint64_t handle, number, known;
} shortcut_directories[DIRECTORIES];

/* What is in each that is being listed: names as getdents64(2) gives them. Larger ones, by what is in them or by what
 * stat(2) says as in ahead.py, are Python's, which doesn't keep others waiting for them. */
#define PIECE (32 << 10)
#define LONGEST (256 << 10)
#define LARGE (128 << 10)

static struct listing {
	char *entries;
	size_t size;
} listings[DIRECTORIES];

/* Python's handles are even. */
int answer_opendir(int device, const struct fuse_in_header *header)
{
	static uint64_t opened = 1;
	struct shortcut_directory *directory = &shortcut_directories[(opened += 2) % DIRECTORIES];
	const struct shortcut_shown *shown = find_shown(header->nodeid);
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};

	if (directory->handle || shown == NULL || !(shown->may & LISTED))
		return 0;
	*directory = (struct shortcut_directory){CACHED_DIRECTORY | OPENED_HERE | opened, header->nodeid, 0};
	out.fh = directory->handle;
	reply(device, header->unique, 0, &out, sizeof out);
	return 1;
}

int forget_directory(uint64_t handle)
{
	struct shortcut_directory *directory = &shortcut_directories[handle % DIRECTORIES];
	struct listing *listing = &listings[handle % DIRECTORIES];
	int known = directory->handle != handle || directory->known;

	if (directory->handle == handle) {
		*directory = (struct shortcut_directory){0};
		free(listing->entries);
		*listing = (struct listing){0};
	}
	return known;
}

/* Whether Python is not needed for it: marks of layers, and devices, one of which is a mark, are. */
static int is_plain(const struct dirent64 *entry)
{
	if (is_passed_over(entry->d_name) || is_too_long(entry->d_name) || !strncmp(entry->d_name, ".wh.", 4))
		return 0;
	return entry->d_type == DT_REG || entry->d_type == DT_DIR || entry->d_type == DT_LNK;
}

static int add_entry(struct listing *listing, const struct dirent64 *entry)
{
	if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
		return 1;
	if (!is_plain(entry) || listing->size + entry->d_reclen > LONGEST)
		return 0;
	memcpy(listing->entries + listing->size, entry, entry->d_reclen);
	listing->size += entry->d_reclen;
	return 1;
}

/* Read what is in an open directory, without "." and "..", in the order that Python would find it in. */
static int read_entries(int fd, struct listing *listing)
{
	static char got[PIECE];
	ssize_t size;

	while ((size = getdents64(fd, got, sizeof got)) > 0) {
		char *more = realloc(listing->entries, listing->size + (size_t)size);

		if (more == NULL)
			return 0;
		listing->entries = more;
		for (ssize_t at = 0; at < size; at += ((const struct dirent64 *)(const void *)(got + at))->d_reclen)
			if (!add_entry(listing, (const void *)(got + at)))
				return 0;
	}
	return size == 0;
}

/* Whether a directory can be listed here; then it is in `listing`. */
static int list(const struct shortcut_shown *shown, struct listing *listing)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = openat(shown->fd, ".", flags | O_NOATIME), listed;
	struct stat st;

	if (fd == -1 && (fd = openat(shown->fd, ".", flags)) == -1)
		return 0;
	listing->size = 0;
	listed = fstat(fd, &st) == 0 && st.st_size <= LARGE && read_entries(fd, listing);
	close(fd);
	if (!listed) {
		free(listing->entries);
		*listing = (struct listing){0};
	}
	return listed;
}

/* Add an entry to what is given. Whether there was room for it. */
static int give(char *to, size_t *given, size_t room, const struct fuse_entry_out *found, uint64_t number, uint64_t cookie,
		uint32_t type, const char *name)
{
	const size_t length = strlen(name);
	struct fuse_direntplus entry = {
		.entry_out = *found,
		.dirent = {.ino = number, .off = cookie, .namelen = (uint32_t)length, .type = type},
	};
	const size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + length);

	if (*given + size > room)
		return 0;
	memset(to + *given, 0, size);
	memcpy(to + *given, &entry, FUSE_NAME_OFFSET_DIRENTPLUS);
	memcpy(to + *given + FUSE_NAME_OFFSET_DIRENTPLUS, name, length);
	*given += size;
	return 1;
}

/* What a file may be that Python is asked of: with a record it may stand for a device (records.py). */
static uint32_t type_of(const struct shortcut_shown *shown, const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_size == 0 && shown->may & RECORDED ? DT_UNKNOWN : IFTODT(st->st_mode);
}

/* One name: with its attributes, and one look-up more, if we may tell of it; else the kernel asks for them (in
 * fs/fuse/readdir.c, fuse_direntplus_link). Whether it is given: not if there is no room, or only Python knows the
 * number, which programs compare with that of stat(2). */
static int give_name(char *to, size_t *given, size_t room, const struct shortcut_shown *shown, uint64_t cookie,
		     const struct dirent64 *entry)
{
	struct fuse_entry_out found = {.entry_valid = LASTING, .attr_valid = LASTING};
	const struct fuse_entry_out nothing = {0};
	struct stat st;
	uint64_t number;

	if (fstatat(shown->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return 1; /* somebody has changed the layer */
	if ((number = number_of(&st)) == 0)
		return 0;
	if (!describe(shown, entry->d_name, &st, &found.attr))
		return give(to, given, room, &nothing, number, cookie, type_of(shown, &st), entry->d_name);
	found.nodeid = number;
	if (!give(to, given, room, &found, number, cookie, IFTODT(st.st_mode), entry->d_name))
		return 0;
	if (!look_up_stub(number, &st, shown->number, entry->d_name))
		memset(to + *given - FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + strlen(entry->d_name)), 0,
		       sizeof found);
	return 1;
}

/* The cookies are Python's (listing.py): 1 and 2 for the dots, then one for each name. So it goes on where we can't. */
int answer_readdir(int device, const struct fuse_in_header *header, const struct fuse_read_in *in)
{
	static char to[DATA];
	const struct shortcut_directory *directory = &shortcut_directories[in->fh % DIRECTORIES];
	const struct shortcut_shown *shown = find_shown(header->nodeid);
	struct listing *listing = &listings[in->fh % DIRECTORIES];
	const struct fuse_entry_out nothing = {0};
	size_t given = 0, room = in->size < DATA ? in->size : DATA;
	const struct dirent64 *entry;
	uint64_t cookie = 0;
	int fits = 1;

	if (directory->handle != in->fh || directory->number != header->nodeid || shown == NULL || !shown->above)
		return 0;
	if (!(shown->may & FINDABLE) || !(shown->may & LISTED) || shown->fd < 0)
		return 0;
	if ((in->offset == 0 || listing->entries == NULL) && !list(shown, listing))
		return 0;
	if (cookie++ >= in->offset)
		fits = give(to, &given, room, &nothing, shown->number, cookie, DT_DIR, ".");
	if (cookie++ >= in->offset && fits)
		fits = give(to, &given, room, &nothing, shown->above, cookie, DT_DIR, "..");
	for (size_t at = 0; at < listing->size && fits; at += entry->d_reclen) {
		entry = (const void *)(listing->entries + at);
		if (cookie++ >= in->offset)
			fits = give_name(to, &given, room, shown, cookie, entry);
	}
	if (!fits && given == 0)
		return 0;
	reply(device, header->unique, (ssize_t)given, to, given);
	return 1;
}
