/* A clock that is off: what the programs of a machine are told of the time of day.
 *
 * Loaded into each of them by /etc/ld.so.preload.  How many seconds it is ahead is a number in a
 * file that they share, so that it is set for those that run, too.  What counts the time that has
 * passed (CLOCK_MONOTONIC, time limits, timers) stays right, as it does where somebody sets a
 * clock.  The kernel isn't fooled: files keep their true times.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void)
{
    int file = open("/run/chaos-clock", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *shared = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED)
        ahead = shared;
}

int clock_gettime(clockid_t clock, struct timespec *told)
{
    int failed = syscall(SYS_clock_gettime, clock, told);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        told->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *told, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told)
        *told = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *told, int base)
{
    return clock_gettime(CLOCK_REALTIME, told) ? 0 : base;
}
