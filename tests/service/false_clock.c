/* Clocks that lie as the file says that FALSE_CLOCK names. Loaded with LD_PRELOAD. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile struct {
    /* Seconds by which the time of day is off. */
    int64_t shift;
    /* Whether the worker threads have no monotonic clock: Rust panics without one. */
    int64_t stop_workers;
} *lies;

__attribute__((constructor)) static void map_lies(void) {
    int file = open(getenv("FALSE_CLOCK"), O_RDONLY);
    void *page = mmap(NULL, sizeof *lies, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) abort();
    close(file);
    lies = page;
}

static int is_worker(void) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return !strcmp(name, "reranker-worker");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (clock == CLOCK_MONOTONIC && lies && lies->stop_workers && is_worker()) {
        errno = EINVAL;
        return -1;
    }
    long failed = syscall(SYS_clock_gettime, clock, now);
    int of_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!failed && of_day && lies) now->tv_sec += lies->shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
