import CNetlink
import Glibc

/// Why the kernel's nbd driver does not do what it was asked.
enum KernelDeviceError: Error, Equatable, Sendable {
    /// There is no driver; what loading it came to.
    case noDriver(String)
    case notPermitted
    /// Somebody else has the device.
    case busy
    case refused(String)

    var text: String {
        switch self {
        case .noDriver(let reason): "the kernel has no nbd driver (\(reason))"
        case .notPermitted: "the kernel's nbd driver is for root alone"
        case .busy: "the nbd device is in use by something else"
        case .refused(let reason): "the kernel's nbd driver refuses: \(reason)"
        }
    }
}

/// The kernel's nbd driver by generic netlink (`linux/nbd-netlink.h`). Every call blocks until the kernel has answered, so it
/// belongs on a `Worker`.
struct NBDNetlink: ~Copyable {
    /// What a device is told when it is connected or when its server comes back.
    struct Settings: Sendable {
        /// NBD_ATTR_SIZE_BYTES; a multiple of `blockBytes`.
        var bytes: UInt64
        /// NBD_ATTR_BLOCK_SIZE_BYTES: 512, 1024, 2048 or 4096.
        var blockBytes: UInt32
        /// NBD_ATTR_SERVER_FLAGS
        var flags: UInt16
        /// NBD_ATTR_BACKEND_IDENTIFIER: whose device it is; shown in `/sys/block/nbdN/backend`.
        var identifier: String
    }

    /// NBD_ATTR_DEAD_CONN_TIMEOUT in seconds: how long requests wait for a server that has died before they fail.
    static let waitsForServerSeconds: UInt64 = 600

    private let socket: OpaquePointer
    private let family: Int32

    init() throws(KernelDeviceError) {
        guard let socket = nl_socket_alloc() else { throw .refused(SystemError.text(ENOMEM)) }
        var code = genl_connect(socket)
        if code == 0 { code = genl_ctrl_resolve(socket, NBD_GENL_FAMILY_NAME) }
        guard code >= 0 else {
            nl_socket_free(socket)
            throw code == -NLE_OBJ_NOTFOUND ? .noDriver("not loaded") : NBDNetlink.error(code)
        }
        self.socket = socket
        family = code
    }

    deinit { nl_socket_free(socket) }

    private static func error(_ code: Int32) -> KernelDeviceError {
        switch -code {
        case NLE_PERM, NLE_NOACCESS: .notPermitted
        case NLE_BUSY: .busy
        default: .refused(String(cString: nl_geterror(code)))
        }
    }

    /// NBD_CMD_CONNECT: gives a device a server at the other end of `descriptor`, which the kernel duplicates.
    /// - Parameter index: nil for any that is free.
    /// - Returns: the device's index.
    func connect(_ index: Int?, _ settings: Settings, descriptor: Int32) throws(KernelDeviceError) -> Int {
        let message = try newMessage(NBD_CMD_CONNECT, index)
        put(settings, descriptor, into: message)
        nla_put_u64(message, Int32(NBD_ATTR_SERVER_FLAGS), UInt64(settings.flags))
        return try ask(message) ?? index ?? 0
    }

    /// NBD_CMD_RECONFIGURE: a new server in place of one that has died, and perhaps another size. A server that lives keeps
    /// the device, and nobody is told so: the new socket is closed, then.
    func reconfigure(_ index: Int, _ settings: Settings, descriptor: Int32) throws(KernelDeviceError) {
        let message = try newMessage(NBD_CMD_RECONFIGURE, index)
        put(settings, descriptor, into: message)
        _ = try ask(message)
    }

    /// NBD_CMD_DISCONNECT: tells the server, then gives up the device.
    func disconnect(_ index: Int) throws(KernelDeviceError) {
        _ = try ask(try newMessage(NBD_CMD_DISCONNECT, index))
    }

    private func newMessage(_ command: Int, _ index: Int?) throws(KernelDeviceError) -> OpaquePointer {
        guard let message = nlmsg_alloc() else { throw .refused(SystemError.text(ENOMEM)) }
        genlmsg_put(message, 0, 0, family, 0, 0, UInt8(command), UInt8(NBD_GENL_VERSION))
        if let index { nla_put_u32(message, Int32(NBD_ATTR_INDEX), UInt32(index)) }
        return message
    }

    private func put(_ settings: Settings, _ descriptor: Int32, into message: OpaquePointer) {
        nla_put_u64(message, Int32(NBD_ATTR_SIZE_BYTES), settings.bytes)
        nla_put_u64(message, Int32(NBD_ATTR_BLOCK_SIZE_BYTES), UInt64(settings.blockBytes))
        // A request that takes long keeps its connection: with a timeout the kernel would cut it, and with more than one
        // connection it does so without being asked to. That is why there is only one.
        nla_put_u64(message, Int32(NBD_ATTR_TIMEOUT), 0)
        nla_put_u64(message, Int32(NBD_ATTR_DEAD_CONN_TIMEOUT), NBDNetlink.waitsForServerSeconds)
        nla_put_string(message, Int32(NBD_ATTR_BACKEND_IDENTIFIER), settings.identifier)
        guard descriptor >= 0 else { return }
        let sockets = nla_nest_start(message, Int32(NBD_ATTR_SOCKETS))
        let item = nla_nest_start(message, Int32(NBD_SOCK_ITEM))
        nla_put_u32(message, Int32(NBD_SOCK_FD), UInt32(descriptor))
        nla_nest_end(message, item)
        nla_nest_end(message, sockets)
    }

    /// Sends a request, which is freed, and waits for its acknowledgement.
    /// - Returns: NBD_ATTR_INDEX of the reply, if there was one.
    private func ask(_ message: OpaquePointer) throws(KernelDeviceError) -> Int? {
        var found: Int64 = -1
        let code = withUnsafeMutablePointer(to: &found) { found in
            nl_socket_modify_cb(
                socket, NL_CB_VALID, NL_CB_CUSTOM,
                { message, found in
                    if let header = genlmsg_hdr(nlmsg_hdr(message)),
                        let attribute = nla_find(
                            genlmsg_attrdata(header, 0), genlmsg_attrlen(header, 0), Int32(NBD_ATTR_INDEX))
                    {
                        found?.assumingMemoryBound(to: Int64.self).pointee = Int64(nla_get_u32(attribute))
                    }
                    return Int32(NL_OK.rawValue)
                }, found)
            return nl_send_sync(socket, message)
        }
        guard code >= 0 else { throw NBDNetlink.error(code) }
        return found >= 0 ? Int(found) : nil
    }
}
