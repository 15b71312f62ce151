import Foundation
import Testing

@testable import ReplicaProto

/// Clients that nobody here wrote, against the core's side of the protocol: libnbd (nbdinfo, nbdcopy, its Python binding) and QEMU.
@Suite(.serialized) struct NBDClientTests {
    static func has(_ tools: String...) -> Bool {
        tools.allSatisfy { FileManager.default.isExecutableFile(atPath: "/usr/bin/" + $0) }
    }

    static var hasBinding: Bool {
        has("python3") && FileManager.default.fileExists(atPath: "/usr/lib/python3/dist-packages/nbd.py")
    }

    private func run(_ tool: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/" + tool)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    private func withServer(
        _ diskBytes: Int = 8 << 20, flags: NBDTransmissionFlags = .standard, _ body: (NBDLoopbackServer) throws -> Void
    ) throws {
        let server = try #require(NBDLoopbackServer(diskBytes: diskBytes, flags: flags))
        defer { server.stop() }
        try body(server)
    }

    private func uri(_ server: NBDLoopbackServer, _ export: String = "r0") -> String {
        "nbd+unix:///\(export)?socket=\(server.path)"
    }

    @Test("nbdinfo reads size, flags and block sizes", .enabled(if: has("nbdinfo")))
    func info() throws {
        try withServer { server in
            let (status, output) = try run("nbdinfo", ["--json", uri(server)])
            #expect(status == 0, "\(output)")
            let object = try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
            #expect(object["protocol"] as? String == "newstyle-fixed" && object["structured"] as? Bool == true)
            let export = try #require((object["exports"] as? [[String: Any]])?.first)
            #expect(export["export-name"] as? String == "r0" && export["description"] as? String == "a test")
            #expect(export["export-size"] as? Int == 8 << 20)
            #expect(export["block_size_minimum"] as? Int == 512 && export["block_size_preferred"] as? Int == 4096)
            #expect(export["block_size_maximum"] as? Int == 32 << 20)
            for (key, value) in [
                ("can_cache", true), ("can_df", true), ("can_fast_zero", false), ("can_flush", true), ("can_fua", true),
                ("can_multi_conn", true), ("can_trim", true), ("can_zero", true), ("is_read_only", false),
                ("is_rotational", false),
            ] {
                #expect(export[key] as? Bool == value, "\(key)")
            }
        }
    }

    @Test("nbdinfo --list names every export, and tells why one may not be used", .enabled(if: has("nbdinfo")))
    func list() throws {
        try withServer { server in
            let (_, listing) = try run("nbdinfo", ["--list", uri(server, "")])
            #expect(listing.contains("export=\"r0\""), "\(listing)")
            let (refused, why) = try run("nbdinfo", [uri(server, "other")])
            #expect(refused != 0 && why.contains("for export: other"), "\(why)")
            let (unknown, _) = try run("nbdinfo", [uri(server, "nothing")])
            #expect(unknown != 0)
            let (said, text) = try run("nbdinfo", ["--size", uri(server)])
            #expect(said == 0 && text == "8388608\n")
        }
    }

    @Test("nbdcopy there and back, over several connections", .enabled(if: has("nbdcopy")))
    func copy() throws {
        try withServer { server in
            let folder = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent(UUID().uuidString)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            var random = SeededGenerator(seed: 1)
            var bytes = [UInt8](repeating: 0, count: 8 << 20)
            for index in stride(from: 0, to: bytes.count, by: 8) where index >> 18 & 1 == 0 {
                withUnsafeBytes(of: random.next()) { for (at, byte) in $0.enumerated() { bytes[index + at] = byte } }
            }
            let there = folder.appendingPathComponent("there").path
            let back = folder.appendingPathComponent("back").path
            try Data(bytes).write(to: URL(fileURLWithPath: there))
            let (out, said) = try run("nbdcopy", ["--flush", there, uri(server)])
            #expect(out == 0, "\(said)")
            #expect(server.contents == bytes)
            let (home, text) = try run("nbdcopy", [uri(server), back])
            #expect(home == 0, "\(text)")
            #expect(FileManager.default.contents(atPath: back) == Data(bytes))
        }
    }

    @Test("qemu-io writes, zeroes, discards, flushes and reads its patterns back", .enabled(if: has("qemu-io", "qemu-img")))
    func qemu() throws {
        try withServer { server in
            let (status, output) = try run(
                "qemu-io",
                [
                    "-f", "raw", "-c", "write -P 0xaa 0 1M", "-c", "write -f -P 0xbb 1M 64k", "-c", "write -z 512k 128k",
                    "-c", "write -z -u 640k 64k", "-c", "discard 0 64k", "-c", "flush", "-c", "read -P 0 0 64k", "-c",
                    "read -P 0xaa 64k 448k", "-c", "read -P 0 512k 192k", "-c", "read -P 0xaa 704k 320k", "-c",
                    "read -P 0xbb 1M 64k", "-c", "read -P 0 2M 4M", "-c", "aio_write -P 0xcc 7M 512", "-c", "aio_flush",
                    uri(server),
                ])
            #expect(status == 0 && !output.contains("failed") && !output.contains("error"), "\(output)")
            let contents = server.contents
            #expect(contents[1 << 20] == 0xbb && contents[7 << 20] == 0xcc && contents[700 << 10] == 0)
            let (info, text) = try run("qemu-img", ["info", "--output=json", uri(server)])
            #expect(info == 0 && text.contains("\"virtual-size\": 8388608"), "\(text)")
            let (refused, why) = try run("qemu-img", ["info", uri(server, "other")])
            #expect(refused != 0 && why.contains("r0 is Secondary"), "\(why)")
        }
    }

    @Test("a client that breaks the rules on purpose is told so and may go on", .enabled(if: hasBinding))
    func strict() throws {
        try withServer { server in
            let script = """
                import errno, nbd
                h = nbd.NBD()
                h.set_strict_mode(0)
                h.connect_uri('\(uri(server))')
                size = h.get_size()
                def fails(call, number):
                    try:
                        call()
                    except nbd.Error as e:
                        assert e.errnum == number, (e.errnum, number)
                        return
                    assert False, 'no error'
                fails(lambda: h.pread(1024, size - 512), errno.EINVAL)
                fails(lambda: h.pwrite(bytearray(1024), size - 512), errno.ENOSPC)
                fails(lambda: h.zero(1024, size - 512), errno.ENOSPC)
                fails(lambda: h.trim(1024, size - 512), errno.EINVAL)
                fails(lambda: h.pread(512, 1), errno.EINVAL)
                fails(lambda: h.pwrite(b'x' * 512, 0, 0x8000), errno.EINVAL)
                fails(lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO), errno.EINVAL)
                fails(lambda: h.pwrite(bytearray(48 << 20), 0), errno.ENOSPC)
                h.pwrite(b'y' * 512, size - 512, nbd.CMD_FLAG_FUA)
                h.flush()
                h.cache(size, 0)
                assert h.pread(512, size - 512, nbd.CMD_FLAG_DF) == b'y' * 512
                h.zero(512, size - 512, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
                assert h.pread(512, size - 512) == bytes(512)
                h.shutdown()
                print('all is well')
                """
            let (status, output) = try run("python3", ["-c", script])
            #expect(status == 0 && output.contains("all is well"), "\(output)")
        }
    }

    @Test("simple replies, no structured ones, and NBD_OPT_EXPORT_NAME", .enabled(if: hasBinding))
    func plain() throws {
        try withServer { server in
            let script = """
                import nbd
                h = nbd.NBD()
                h.set_request_structured_replies(False)
                h.set_handshake_flags(0)
                h.connect_uri('\(uri(server))')
                assert h.get_protocol() == 'newstyle', h.get_protocol()
                assert not h.get_structured_replies_negotiated() and not h.can_df()
                h.pwrite(b'z' * 4096, 8192)
                assert h.pread(4096, 8192) == b'z' * 4096
                h.shutdown()
                print('all is well')
                """
            let (status, output) = try run("python3", ["-c", script])
            #expect(status == 0 && output.contains("all is well"), "\(output)")
        }
    }
}
