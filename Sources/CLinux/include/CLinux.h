#pragma once
#include <features.h>
#include <stdint.h>

/// The open flag that bypasses the page cache (glibc hides O_DIRECT from importers).
int clinux_o_direct(void);
/// Size of a block device in bytes (BLKGETSIZE64). Returns 0, or -1 with errno set.
int clinux_block_size_bytes(int fd, uint64_t *bytes);
/// Logical sector size of a block device in bytes (BLKSSZGET). Returns 0, or -1 with errno set.
int clinux_logical_block_size(int fd, int *bytes);
/// Asks a block device to discard a byte range (BLKDISCARD). Returns 0, or -1 with errno set.
int clinux_block_discard(int fd, uint64_t offset, uint64_t length);
