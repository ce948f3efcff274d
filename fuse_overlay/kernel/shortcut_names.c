/* Look-ups of names in directories that nobody but us changes: shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names of mountpoints of file systems that may not answer soon, one after another, an empty one at the end; or all
 * names, if they are too many. */
#define PASSED_OVER 4096
char shortcut_passed_over[PASSED_OVER];
int shortcut_passes_all;

/* Whom the host's ids, and those of records, are shown as, each at its number modulo the size. */
#define IDS (1 << 10)

struct shortcut_id {
	uint32_t id, shown, known;
} shortcut_users[IDS], shortcut_groups[IDS], shortcut_recorded_users[IDS], shortcut_recorded_groups[IDS];

/* The high bits of inode numbers, by device: inodes.py. */
#define DEVICES 16
#define LOW_BITS 48

struct shortcut_device {
	uint64_t device, tag;
} shortcut_devices[DEVICES];

/* A bit for each number, modulo the size, that is another file's than the one whose real number it is made from. */
#define TAKEN (1 << 16)
unsigned char shortcut_taken[TAKEN / 8];

int is_passed_over(const char *name)
{
	for (const char *each = shortcut_passed_over; *each; each += strlen(each) + 1)
		if (!strcmp(each, name))
			return 1;
	return shortcut_passes_all;
}

static const uint32_t *shown_as(const struct shortcut_id *ids, uint32_t id)
{
	const struct shortcut_id *known = &ids[id % IDS];

	return known->known && known->id == id ? &known->shown : NULL;
}

uint64_t number_of(const struct stat *st)
{
	for (int place = 0; place < DEVICES && shortcut_devices[place].tag; place++) {
		uint64_t real = (uint64_t)st->st_ino, number;

		if (shortcut_devices[place].device != (uint64_t)st->st_dev)
			continue;
		number = shortcut_devices[place].tag | ((real ^ real >> LOW_BITS) & ((UINT64_C(1) << LOW_BITS) - 1));
		return shortcut_taken[number % TAKEN / 8] & 1 << number % 8 ? 0 : number;
	}
	return 0;
}

/* A number of a record, and what follows it. Whether it is one. */
static int take_number(const char **at, int base, uint32_t *number)
{
	char *end;
	unsigned long found;

	if (**at < '0' || **at > '9')
		return 0;
	found = strtoul(*at, &end, base);
	*at = end;
	*number = (uint32_t)found;
	return found < UINT32_MAX;
}

/* Whom a file belongs to by its record (ownership.py, parse_record). 1 if there is none, 0 if only Python knows. */
static int by_record(int directory, const char *name, uint32_t *mode, const uint32_t **uid, const uint32_t **gid)
{
	char value[64];
	const char *at = value;
	uint32_t recorded_mode, user, group;
	ssize_t size = get_attribute(directory, name, RECORD, value, sizeof value - 1);

	if (size == -1)
		return errno == ENODATA;
	value[size] = 0;
	if (!take_number(&at, 10, &user) || *at++ != ':' || !take_number(&at, 10, &group) || *at++ != ':')
		return 0;
	if (!take_number(&at, 8, &recorded_mode) || at != value + size)
		return 0;
	*mode = (*mode & S_IFMT) | (recorded_mode & 07777);
	*uid = shown_as(shortcut_recorded_users, user);
	*gid = shown_as(shortcut_recorded_groups, group);
	return 1;
}

/* What is longer, which some file systems have, Python looks up for nobody (entries.py), and has no room in
 * shortcut_told. */
int is_too_long(const char *name)
{
	return strlen(name) > NAME_MAX;
}

/* Regular files, whose records are in the files themselves, and links, with one name. */
int describe(const struct shortcut_shown *directory, const char *name, const struct stat *st, struct fuse_attr *found)
{
	const uint32_t *uid = shown_as(shortcut_users, st->st_uid), *gid = shown_as(shortcut_groups, st->st_gid);
	const uint64_t number = number_of(st);
	uint32_t mode = st->st_mode;

	if (!strncmp(name, ".wh.", 4) || st->st_nlink != 1 || (uint64_t)st->st_dev != directory->device || number == 0)
		return 0;
	if (is_too_long(name) || (!S_ISREG(mode) && !(S_ISLNK(mode) && !(directory->may & RECORDED))))
		return 0;
	if (directory->may & RECORDED && !by_record(directory->fd, name, &mode, &uid, &gid))
		return 0;
	if (uid == NULL || gid == NULL)
		return 0;
	*found = attributes(number, st, mode, *uid, *gid);
	return 1;
}

const struct shortcut_shown *place_of(const struct stub *stub, struct stat *st)
{
	const struct shortcut_shown *directory = find_shown(stub->parent);

	if (directory == NULL || !(directory->may & FINDABLE))
		return NULL;
	if (fstatat(directory->fd, stub->name, st, AT_SYMLINK_NOFOLLOW) == -1)
		return NULL;
	return (uint64_t)st->st_dev == stub->device && (uint64_t)st->st_ino == stub->real ? directory : NULL;
}

/* A name that a directory without layers below lacks stands for nothing. */
int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room)
{
	const struct shortcut_shown *directory = find_shown(header->nodeid);
	struct fuse_entry_out found = {.entry_valid = LASTING, .attr_valid = LASTING};
	struct stat st;

	if (directory == NULL || !(directory->may & WHOLE) || !memchr(name, 0, room) || is_passed_over(name))
		return 0;
	if (fstatat(directory->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!(directory->may & FINDABLE) || !describe(directory, name, &st, &found.attr))
			return 0;
		found.nodeid = found.attr.ino;
		if (!look_up_stub(found.nodeid, &st, header->nodeid, name))
			return 0;
	} else if (errno != ENOENT) {
		return 0;
	}
	reply(device, header->unique, 0, &found, sizeof found);
	return 1;
}

int answer_readlink(int device, const struct fuse_in_header *header)
{
	static char target[PATH_MAX];
	const struct stub *stub = find_stub(header->nodeid);
	const struct shortcut_shown *directory;
	struct stat st;
	ssize_t size;

	if (stub == NULL || (directory = place_of(stub, &st)) == NULL)
		return 0;
	size = readlinkat(directory->fd, stub->name, target, sizeof target);
	if (size <= 0)
		return 0;
	reply(device, header->unique, size, target, (size_t)size);
	return 1;
}
