#pragma once
#include <features.h>
#include <stddef.h>
#include <stdint.h>

/// The open flag that bypasses the page cache (glibc hides O_DIRECT from importers).
int clinux_o_direct(void);
/// Size of a block device in bytes (BLKGETSIZE64). Returns 0, or -1 with errno set.
int clinux_block_size_bytes(int fd, uint64_t *bytes);
/// Logical sector size of a block device in bytes (BLKSSZGET). Returns 0, or -1 with errno set.
int clinux_logical_block_size(int fd, int *bytes);
/// Asks a block device to discard a byte range (BLKDISCARD). Returns 0, or -1 with errno set.
int clinux_block_discard(int fd, uint64_t offset, uint64_t length);
/// Physical sector size of a block device in bytes (BLKPBSZGET). Returns 0, or -1 with errno set.
int clinux_physical_block_size(int fd, unsigned int *bytes);
/// Alignment that direct I/O on an open file wants, in bytes (STATX_DIOALIGN); zeroes where direct I/O is not
/// supported. Returns 0, or -1 with errno set (ENOTSUP: the kernel does not tell).
int clinux_direct_alignment(int fd, uint32_t *memory, uint32_t *offset);
/// Takes an open-file-description write lock on a byte range without waiting (F_OFD_SETLK); length 0 = to the end.
/// Returns 0, or -1 with errno set (EAGAIN: held by someone else).
int clinux_lock_range(int fd, int64_t start, int64_t length);
/// Tells the kernel that this process serves a block device: its own allocations must not wait for I/O
/// (PR_SET_IO_FLUSHER). Returns 0, or -1 with errno set.
int clinux_set_io_flusher(void);
/// Blocks SIGTERM, SIGINT and SIGCHLD and returns a descriptor to read them from, or -1 with errno set.
int clinux_signal_descriptor(void);
/// Blocks SIGTERM and returns a descriptor that becomes readable when it comes, or -1 with errno set.
int clinux_termination_descriptor(void);
/// The signal number in one record read from that descriptor.
uint32_t clinux_signal_number(const void *record);
/// Bytes of one such record.
uint32_t clinux_signal_record_size(void);
/// A descriptor that becomes readable when the child ends (pidfd_open), or -1 with errno set.
int clinux_child_descriptor(int pid);
/// Flags of fallocate: make a hole that reads as zeroes; write zeroes and keep the blocks. Both keep the file size.
int clinux_fallocate_punch_hole(void);
int clinux_fallocate_zero_range(void);
/// Exit code of a wait status (0...255), or -1 if the process was ended by a signal.
int clinux_exit_code(int wait_status);
/// Leaves the terminal (double fork, new session, standard input from /dev/null). Returns in the new process with a
/// descriptor; the caller's process ends with the status that is passed to `clinux_report_start`, or 1 if the new one
/// ends without. Returns -1 with errno set if that is not possible. Call before any thread exists.
int clinux_daemonise(void);
/// Ends the waiting parent with an exit status.
void clinux_report_start(int descriptor, unsigned char status);
/// Bytes that this process may lock; UINT64_MAX without limit.
uint64_t clinux_locked_memory_limit(void);
/// Keeps everything that this process has and gets in memory, as it is touched. Returns 0, or -1 with errno set (EPERM:
/// there is a limit, above which allocations would fail).
int clinux_lock_memory(void);
/// Has the pages of a region brought in, without changing them (MADV_POPULATE_WRITE). Where the kernel can't, nothing happens.
void clinux_bring_in(void *address, size_t count);
/// A counter that wakes whoever reads it (eventfd), or -1 with errno set.
int clinux_event_descriptor(void);
/// The poll event of a peer that has closed its sending side (POLLRDHUP).
uint32_t clinux_poll_peer_closed(void);
/// Starts `/bin/sh -c COMMAND` in `/`, in a process group of its own, with no blocked signals, input from /dev/null and
/// output to our standard error. `environment` ends with a null pointer. Returns 0 and the process, or an errno.
int clinux_spawn_shell(const char *command, char *const environment[], int *process);
/// Enables an io_uring that was set up disabled, for the calling thread (IORING_REGISTER_ENABLE_RINGS; liburing 2.3
/// declares the call and does not export it). Returns 0, or -1 with errno set.
int clinux_enable_ring(int ring);
/// When this library was compiled: `2026-11-21 09:30:00`.
void clinux_build_date(char text[32]);
/// Forks a process that watches this one by a pipe. Returns 1 here, with the writing end, which says by a byte that all is
/// well and by its closing that we died; 0 in the new process, with the reading end and the log, everything else closed
/// and signals to end ignored; -1 if that is not possible. Call before any thread exists.
int clinux_fork_watcher(int *end, int *log);
/// Device numbers of a block device node, without asking a file server. Returns 0, or -1 with errno set (ENOTBLK).
int clinux_block_device_number(const char *path, uint32_t *major, uint32_t *minor);
/// Makes a block device node. Returns 0, or -1 with errno set.
int clinux_make_block_node(const char *path, unsigned int mode, uint32_t major, uint32_t minor);
/// A file in memory with these bytes, which a program that is started inherits. Returns a descriptor, or -1 with errno set.
int clinux_memory_file(const char *name, const void *bytes, size_t count);
/// Whether a descriptor stays open when another program takes over this process. Returns 0, or -1 with errno set.
int clinux_inherit(int fd, int inherits);
/// A pair of connected stream sockets. Returns 0, or -1 with errno set.
int clinux_socket_pair(int ends[2]);
/// The process at the other end of a Unix socket when it connected, or -1 with errno set.
int clinux_peer_process(int fd);
/// Reads `count` bytes (a multiple of 4096) of a file or block device, in a process of its own that is left to its fate if it takes
/// longer: a disk that hangs holds up nobody else. Returns the number of bytes that were there, or minus an error number;
/// `size` becomes that of the whole.
long clinux_look(const char *path, uint64_t offset, void *bytes, size_t count, int milliseconds, uint64_t *size);
