/* Cuts the power of mounted ext4 file systems: cut MODE SEED MOUNT...
 *
 * EXT4_IOC_SHUTDOWN without flushing the journal: what was synced is in the image, the rest is gone, and every
 * later call gets EIO. In MODE torn, a part of what was not synced reaches the disk first, in an order nobody
 * chose: every other page of the newest files, and then a commit of the journal, without which pages of
 * preallocated files read as zeros.
 *
 * Prints for each mount the wall clock right before and right after the call, in microseconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, unsigned int)
#define NO_LOG_FLUSH 2u
#define NEWEST 2
#define PAGE 4096

static long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void tear_file(const char *path, off_t bytes) {
    int file = open(path, O_RDWR);
    if (file < 0) return;
    for (off_t at = 0; at < bytes; at += PAGE)
        if (rand() & 1)
            sync_file_range(file, at, PAGE, SYNC_FILE_RANGE_WRITE);
    sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE);
    close(file);
}

static void tear(const char *mount) {
    char folder[4096], paths[NEWEST][8192];
    long long newest[NEWEST] = {-1, -1};
    off_t sizes[NEWEST];
    snprintf(folder, sizeof folder, "%s/data", mount);
    DIR *listing = opendir(folder);
    if (!listing) return;
    for (struct dirent *entry; (entry = readdir(listing));) {
        char path[8192];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &status) || !S_ISREG(status.st_mode)) continue;
        long long changed = status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec;
        int slot = newest[0] <= newest[1] ? 0 : 1;
        if (changed <= newest[slot]) continue;
        newest[slot] = changed;
        sizes[slot] = status.st_size;
        strcpy(paths[slot], path);
    }
    closedir(listing);
    for (int slot = 0; slot < NEWEST; slot++)
        if (newest[slot] >= 0) tear_file(paths[slot], sizes[slot]);
    snprintf(folder, sizeof folder, "%s/commit", mount);
    int commit = open(folder, O_CREAT | O_WRONLY, 0600);
    if (commit >= 0 && write(commit, "x", 1) == 1) fsync(commit);
    if (commit >= 0) close(commit);
}

int main(int count, char **words) {
    if (count < 4) {
        fprintf(stderr, "usage: cut plain|torn SEED MOUNT...\n");
        return 2;
    }
    srand((unsigned)strtoul(words[2], NULL, 10));
    int mounts[16];
    for (int at = 3; at < count && at < 19; at++) {
        mounts[at - 3] = open(words[at], O_RDONLY | O_DIRECTORY);
        if (mounts[at - 3] < 0) {
            perror(words[at]);
            return 1;
        }
    }
    if (!strcmp(words[1], "torn"))
        for (int at = 3; at < count; at++) tear(words[at]);
    for (int at = 3; at < count; at++) {
        unsigned int how = NO_LOG_FLUSH;
        long long before = now_us();
        if (ioctl(mounts[at - 3], EXT4_IOC_SHUTDOWN, &how)) {
            perror("EXT4_IOC_SHUTDOWN");
            return 1;
        }
        printf("%lld %lld\n", before, now_us());
    }
    return 0;
}
