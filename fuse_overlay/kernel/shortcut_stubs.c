/* Files of layers that Python has no node of: what the kernel has looked up or listed here, in directories that stay as
 * they are, until Python wants to know of one (shortcut_stub, shortcut_drop): shortcut.h. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "shortcut.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* For each inode number modulo the size, of how many Python has nodes; who has reached the most stays there. */
#define KNOWN (1 << 20)
unsigned char shortcut_known[KNOWN];

/* In as many lists as `lists`, by number. */
static struct stub **stubs;
static size_t lists;
uint64_t shortcut_stubs;
static uint64_t most;
#define MANY (1 << 12)
#define FEWEST (1 << 10)

/* The numbers of those that are open, by their descriptors, and how many descriptors that is. */
static uint64_t opened_as[DESCRIPTORS];
uint32_t shortcut_stubs_open;

/* For Python: one that it has asked for. */
#define NAME_MAX_ROOM 256
struct shortcut_told {
	uint64_t device, real, parent;
	uint32_t lookups, opens;
	char name[NAME_MAX_ROOM];
} shortcut_told;
_Static_assert(sizeof shortcut_told == 288, "shortcut.py");

static struct stub **place(uint64_t number)
{
	struct stub **each = &stubs[(number ^ number >> 20) & (lists - 1)];

	while (*each != NULL && (*each)->number != number)
		each = &(*each)->next;
	return each;
}

struct stub *find_stub(uint64_t number)
{
	return lists ? *place(number) : NULL;
}

/* Lists stay short. Whether there are any. */
static int make_lists(size_t count)
{
	struct stub **before = stubs, **made = calloc(count, sizeof *made);
	const size_t had = lists;

	if (made == NULL)
		return lists != 0;
	stubs = made, lists = count;
	for (size_t list = 0; list < had; list++)
		for (struct stub *each = before[list], *next; each != NULL; each = next) {
			struct stub **to = place(each->number);

			next = each->next;
			each->next = NULL;
			*to = each;
		}
	free(before);
	return 1;
}

/* Memory goes back to the system when most of many have gone. */
static void drop(struct stub **at)
{
	struct stub *stub = *at;
	size_t fewer = lists;

	*at = stub->next;
	free(stub);
	if (--shortcut_stubs >= most / 8 || most < MANY)
		return;
	most = shortcut_stubs;
	while (fewer > FEWEST && fewer / 2 > shortcut_stubs)
		fewer /= 2;
	make_lists(fewer);
	malloc_trim(0);
}

static struct stub *add(uint64_t number, const struct stat *st, uint64_t parent, const char *name)
{
	struct stub *stub;

	if (shortcut_stubs >= lists && !make_lists(lists ? 2 * lists : FEWEST))
		return NULL;
	if ((stub = malloc(sizeof *stub + strlen(name) + 1)) == NULL)
		return NULL;
	*stub = (struct stub){
		.number = number,
		.device = (uint64_t)st->st_dev,
		.real = (uint64_t)st->st_ino,
		.parent = parent,
		.own = st->st_uid == geteuid(),
	};
	strcpy(stub->name, name);
	*place(number) = stub;
	if (++shortcut_stubs > most)
		most = shortcut_stubs;
	return stub;
}

int look_up_stub(uint64_t number, const struct stat *st, uint64_t parent, const char *name)
{
	struct stub *stub = find_stub(number);

	if (stub != NULL && (stub->device != (uint64_t)st->st_dev || stub->real != (uint64_t)st->st_ino ||
			     stub->parent != parent || strcmp(stub->name, name)))
		return 0;
	if (stub == NULL && (shortcut_known[number % KNOWN] || (stub = add(number, st, parent, name)) == NULL))
		return 0;
	stub->lookups++;
	return 1;
}

int forget_stub(uint64_t number, uint64_t lookups)
{
	struct stub **at;

	if (!lists || *(at = place(number)) == NULL)
		return 0;
	(*at)->lookups -= lookups < (*at)->lookups ? (uint32_t)lookups : (*at)->lookups;
	if ((*at)->lookups == 0 && (*at)->opens == 0)
		drop(at);
	return 1;
}

/* Somebody who doesn't keep to it may have put a FIFO into the layer meanwhile, for which nobody waits (open(2)). */
int open_stub(uint64_t number)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stub *stub = find_stub(number);
	const struct shortcut_shown *directory = stub != NULL ? find_shown(stub->parent) : NULL;
	struct stat st;
	int fd;

	if (directory == NULL || !(directory->may & FINDABLE) || !(directory->may & OFFERED) || shortcut_openable == 0)
		return -1;
	fd = openat(directory->fd, stub->name, flags | (stub->own ? O_NOATIME : 0));
	if (fd < 0)
		return -1;
	if (fd >= DESCRIPTORS || fstat(fd, &st) == -1 || (uint64_t)st.st_dev != stub->device ||
	    (uint64_t)st.st_ino != stub->real) {
		close(fd);
		return -1;
	}
	stub->opens++;
	opened_as[fd] = number;
	shortcut_stubs_open++;
	shortcut_openable--;
	shortcut_allowed[fd] = MAY_READ;
	return fd;
}

int close_stub(uint64_t number, uint64_t handle)
{
	struct stub *stub = find_stub(number);

	if (stub == NULL || handle >= DESCRIPTORS || opened_as[handle] != number)
		return 0;
	opened_as[handle] = 0;
	shortcut_allowed[handle] = 0;
	close((int)handle);
	shortcut_stubs_open--;
	shortcut_openable++;
	if (--stub->opens == 0 && stub->lookups == 0)
		drop(place(number));
	return 1;
}

/* For Python. Whether there is one of this number: then it is in shortcut_told. */
int shortcut_tell(uint64_t number)
{
	const struct stub *stub = find_stub(number);

	if (stub == NULL)
		return 0;
	shortcut_told = (struct shortcut_told){stub->device, stub->real, stub->parent, stub->lookups, stub->opens, ""};
	strcpy(shortcut_told.name, stub->name);
	return 1;
}

/* From here on Python has a node of it, and what is open of it: the descriptors of one after the other, -1 at the
 * end. */
int shortcut_drop(uint64_t number)
{
	struct stub *stub = find_stub(number);

	if (stub == NULL)
		return -1;
	for (int fd = 0; stub->opens && fd < DESCRIPTORS; fd++)
		if (opened_as[fd] == number) {
			opened_as[fd] = 0;
			shortcut_stubs_open--;
			stub->opens--;
			shortcut_allowed[fd] |= MAY_KEEP;
			return fd;
		}
	drop(place(number));
	return -1;
}

int shortcut_forget(uint64_t number, uint64_t lookups)
{
	return forget_stub(number, lookups);
}
