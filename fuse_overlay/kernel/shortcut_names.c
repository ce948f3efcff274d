/* Look-ups of names in directories that nobody but us changes: shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Names of mountpoints of file systems that may not answer soon, one after another, an empty one at the end; or all
 * names, if they are too many. */
#define PASSED_OVER 4096
char shortcut_passed_over[PASSED_OVER];
int shortcut_passes_all;

/* Whom the host's ids are shown as, each at its number modulo the size. */
#define IDS (1 << 10)

struct shortcut_id {
	uint32_t host, shown, known;
} shortcut_users[IDS], shortcut_groups[IDS];

/* The high bits of inode numbers, by device: inodes.py. */
#define DEVICES 16
#define LOW_BITS 48

struct shortcut_device {
	uint64_t device, tag;
} shortcut_devices[DEVICES];

/* A bit for each number, modulo the size, that is another file's than the one whose real number it is made from. */
#define TAKEN (1 << 16)
unsigned char shortcut_taken[TAKEN / 8];

/* What was found that Python is to know of: a note has the number, and where the rest is in here. */
#define FINDS (1 << 12)

struct shortcut_found {
	uint64_t parent;
	char name[NAME_ROOM];
} shortcut_found[FINDS];
_Static_assert(sizeof *shortcut_found == 56, "shortcut.py");
unsigned shortcut_found_count;

static int is_passed_over(const char *name)
{
	for (const char *each = shortcut_passed_over; *each; each += strlen(each) + 1)
		if (!strcmp(each, name))
			return 1;
	return shortcut_passes_all;
}

static const uint32_t *shown_as(const struct shortcut_id *ids, uint32_t host)
{
	const struct shortcut_id *id = &ids[host % IDS];

	return id->known && id->host == host ? &id->shown : NULL;
}

/* The inode number of a file of a layer, 0 if only Python knows. */
static uint64_t number_of(const struct stat *st)
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

static int has_record(int directory, const char *name)
{
	char path[64 + NAME_ROOM];

	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", directory, name);
	return lgetxattr(path, RECORD, NULL, 0) != -1 || errno != ENODATA;
}

/* A file of a layer that stays as it is, and that has no other names: the rest of what it may be, Python looks at. */
static int answer_found(int device, uint64_t unique, const struct shortcut_shown *directory, const char *name,
			const struct stat *st)
{
	const uint32_t *uid = shown_as(shortcut_users, st->st_uid), *gid = shown_as(shortcut_groups, st->st_gid);
	uint64_t number = number_of(st);
	struct fuse_entry_out out = {.nodeid = number, .entry_valid = LASTING, .attr_valid = LASTING};
	struct shortcut_found *found = &shortcut_found[shortcut_found_count];

	if (!strncmp(name, ".wh.", 4) || strlen(name) >= NAME_ROOM)
		return 0;
	if (!(S_ISREG(st->st_mode) || S_ISLNK(st->st_mode)) || st->st_nlink != 1 || st->st_dev != directory->device)
		return 0;
	if (uid == NULL || gid == NULL || number == 0 || shortcut_found_count == FINDS)
		return 0;
	if (directory->may & RECORDED && S_ISREG(st->st_mode) && has_record(directory->fd, name))
		return 0;
	if (!note_found(number, shortcut_found_count))
		return 0;
	shortcut_found_count++;
	found->parent = directory->number;
	strcpy(found->name, name);
	if (directory->may & OFFERED && S_ISREG(st->st_mode))
		offer(number, directory->fd, name, st->st_uid == geteuid() ? O_NOATIME : 0);
	out.attr = attributes(number, st, st->st_mode, *uid, *gid);
	reply(device, unique, 0, &out, sizeof out);
	return 1;
}

/* A name that a directory without layers below lacks stands for nothing. */
int answer_lookup(int device, const struct fuse_in_header *header, const char *name, size_t room)
{
	const struct shortcut_shown *directory = find_shown(header->nodeid);
	struct fuse_entry_out nothing = {.entry_valid = LASTING};
	struct stat st;

	if (directory == NULL || !(directory->may & WHOLE) || !memchr(name, 0, room) || is_passed_over(name))
		return 0;
	if (fstatat(directory->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return directory->may & FINDABLE && answer_found(device, header->unique, directory, name, &st);
	if (errno != ENOENT)
		return 0;
	reply(device, header->unique, 0, &nothing, sizeof nothing);
	return 1;
}
