#pragma once
#include <features.h>
#include <linux/nbd-netlink.h>
#include <netlink/netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
