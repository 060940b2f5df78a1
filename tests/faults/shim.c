/* Preloaded into a service: a disk that fails and a clock that is wrong, for this one process.

   FAULTS_EIO_BELOW, FAULTS_EIO_WHILE: while the file WHILE exists, what is written or synced in a file below
   the folder BELOW fails with EIO.
   FAULTS_CLOCK_SHIFT: seconds by which the time of day is ahead, or behind when negative. The monotonic clock
   goes right, as it does when somebody sets a host's clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The next one in the order of loading is libc's. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *below, *while_there;
static long shift;

__attribute__((constructor)) static void read_environment(void)
{
    const char *seconds = getenv("FAULTS_CLOCK_SHIFT");

    below = getenv("FAULTS_EIO_BELOW");
    while_there = getenv("FAULTS_EIO_WHILE");
    shift = seconds ? atol(seconds) : 0;
}

/* --- the disk --- */

static int fails(int descriptor)
{
    char link[64], path[4096];
    ssize_t length;
    size_t folder;
    int before = errno;

    if (!below || !while_there)
        return 0;
    if (access(while_there, F_OK) != 0) {
        errno = before;
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = '\0';
    folder = strlen(below);
    if (strncmp(path, below, folder) != 0 || path[folder] != '/')
        return 0;
    errno = EIO;
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    return fails(descriptor) ? -1 : REAL(write)(descriptor, data, size);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    return fails(descriptor) ? -1 : REAL(pwrite)(descriptor, data, size, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset)
{
    return fails(descriptor) ? -1 : REAL(pwrite64)(descriptor, data, size, offset);
}

int fsync(int descriptor)
{
    return fails(descriptor) ? -1 : REAL(fsync)(descriptor);
}

int fdatasync(int descriptor)
{
    return fails(descriptor) ? -1 : REAL(fdatasync)(descriptor);
}

int ftruncate(int descriptor, off_t size)
{
    return fails(descriptor) ? -1 : REAL(ftruncate)(descriptor, size);
}

int ftruncate64(int descriptor, off64_t size)
{
    return fails(descriptor) ? -1 : REAL(ftruncate64)(descriptor, size);
}

/* --- the clock --- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = REAL(clock_gettime)(clock, now);

    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift;
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    int result = REAL(gettimeofday)(now, zone);

    if (result == 0)
        now->tv_sec += shift;
    return result;
}

time_t time(time_t *now)
{
    time_t moment = REAL(time)(NULL) + shift;

    if (now)
        *now = moment;
    return moment;
}
