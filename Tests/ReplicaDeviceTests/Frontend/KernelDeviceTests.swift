import CLinux
import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

/// What can be known of kernel devices without the kernel's nbd driver; the rest is in Tests/Machine.
@Suite(.serialized) struct KernelDeviceTests {
    private static func nodes(_ directory: TestDirectory, _ device: String, disk: String = "/dev/vg/r0") -> DeviceNodes {
        var nodes = DeviceNodes(resource: "r0", volume: 2, minor: 7, device: device, disk: disk)
        nodes.root = directory.path
        return nodes
    }

    private static func number(_ path: String) -> [UInt32]? {
        var (major, minor): (UInt32, UInt32) = (0, 0)
        return clinux_block_device_number(path, &major, &minor) == 0 ? [major, minor] : nil
    }

    private static func target(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = readlink(path, &buffer, buffer.count)
        return length < 0 ? nil : String(decoding: buffer[..<length], as: UTF8.self)
    }

    private static func requireNodes(in directory: TestDirectory) throws {
        let probe = "\(directory.path)/probe"
        guard clinux_make_block_node(probe, 0o600, 43, 0) == 0 else { try Test.cancel("no device nodes for us here") }
        unlink(probe)
    }

    @Test(arguments: [
        ("/dev/drbd7", nil), ("/dev/drbd_mail", nil), ("/dev/nbd3", 3), ("/dev/nbd", nil), ("/dev/replica/mail", nil),
    ])
    func whichIndexIsAskedFor(device: String, index: Int?) {
        let nodes = DeviceNodes(resource: "r0", volume: 0, minor: 7, device: device, disk: "")
        #expect(nodes.namedIndex == index)
        #expect(nodes.node == (index == nil ? "/dev/drbd7" : "/dev/nbd3"))
    }

    @Test func namesAppearAndGo() throws {
        let directory = try TestDirectory()
        try Self.requireNodes(in: directory)
        let nodes = Self.nodes(directory, "/dev/drbd_mail")
        let names = [
            "\(directory.path)/drbd/by-res/r0/2", "\(directory.path)/replica/by-res/r0/2",
            "\(directory.path)/drbd/by-disk/vg/r0", "\(directory.path)/drbd_mail",
        ]
        #expect(nodes.make(major: 43, minor: 16).isEmpty)
        #expect(Self.number("\(directory.path)/drbd7") == [43, 16])
        for name in names { #expect(Self.target(name) == "\(directory.path)/drbd7") }
        // The device is another one now; what was there is replaced, and links are left alone.
        #expect(nodes.make(major: 43, minor: 32).isEmpty)
        #expect(Self.number("\(directory.path)/drbd7") == [43, 32])
        nodes.remove()
        #expect(access("\(directory.path)/drbd7", F_OK) != 0)
        #expect(access("\(directory.path)/drbd", F_OK) != 0, "no empty directories are left")
        #expect(access("\(directory.path)/replica", F_OK) != 0)
    }

    @Test func whatIsNoDeviceNodeIsLeftAlone() throws {
        let directory = try TestDirectory()
        try Self.requireNodes(in: directory)
        let file = open("\(directory.path)/drbd7", O_CREAT | O_WRONLY, 0o600)
        close(file)
        let nodes = Self.nodes(directory, "/dev/drbd7", disk: "")
        #expect(nodes.make(major: 43, minor: 16) == ["\(directory.path)/drbd7 is in the way"])
        nodes.remove()
        #expect(access("\(directory.path)/drbd7", F_OK) == 0)
    }

    /// With its own name the nbd device needs no other node.
    @Test func anNBDDeviceKeepsItsName() throws {
        let directory = try TestDirectory()
        let nodes = Self.nodes(directory, "/dev/nbd3", disk: "")
        #expect(nodes.make(major: 43, minor: 48).isEmpty)
        #expect(access("\(directory.path)/drbd7", F_OK) != 0)
        #expect(Self.target("\(directory.path)/replica/by-res/r0/2") == "\(directory.path)/nbd3")
        nodes.remove()
        #expect(access("\(directory.path)/replica", F_OK) != 0)
    }

    /// A promotion ends well without the driver, too, and says once what is missing.
    @Test func withoutTheDriverTheSocketServes() throws {
        if access("/sys/module/nbd", F_OK) == 0 { try Test.cancel("the kernel has the driver") }
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        guard let node = try TestNode("alice", in: directory, kernelDevices: true) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
        try node.command("primary 0 --force")
        #expect(wait { node.log.contains("no block device") })
        do {
            let client = try TestClient(node, structured: false)
            #expect(try client.write(pattern(4096, seed: 1), at: 0) == 0)
            #expect(try node.ask("secondary 0").code == -12)
        }
        #expect(try wait { try node.ask("secondary 0").code == 1 || node.ask("secondary 0").code == 0 })
        try node.command("primary 0")
        try node.command("secondary 0")
        #expect(node.log.components(separatedBy: "no block device") == 2, "once")
        #expect(node.stop())
    }

    @Test func aSocketUnderTheConfiguredName() throws {
        let directory = try TestDirectory()
        let path = "\(directory.path)/export.sock"
        guard let node = try TestNode("alice", in: directory, device: "unix:\(path)", kernelDevices: true) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try node.command("new-minor r0 0 0")
        #expect(Self.target(path) == "\(node.run)/r0.nbd")
        #expect(!node.log.contains("no block device"))
        #expect(node.stop())
        #expect(access(path, F_OK) != 0)
    }
}
