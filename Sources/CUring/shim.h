#pragma once
/* First, or liburing's feature macros give glibc structs another shape than other C modules see. */
#include <features.h>
#include <linux/io_uring.h>
/* The kernel's own header instead of liburing's private copy of it. */
#define LIBURING_IO_URING_H 1
#include <liburing.h>
