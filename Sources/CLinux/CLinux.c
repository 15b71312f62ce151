#define _GNU_SOURCE
#include "CLinux.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

int clinux_o_direct(void) { return O_DIRECT; }

int clinux_block_size_bytes(int fd, uint64_t *bytes) { return ioctl(fd, BLKGETSIZE64, bytes); }

int clinux_logical_block_size(int fd, int *bytes) { return ioctl(fd, BLKSSZGET, bytes); }

int clinux_block_discard(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(fd, BLKDISCARD, range);
}
