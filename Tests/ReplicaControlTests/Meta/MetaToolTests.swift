import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// A sparse file as metadata device, a console with prepared answers, and a directory of its own.
final class MetaBench {
    let directory: URL
    var output = ""
    var errors = ""
    var answers: [String]?
    var input: [UInt8] = []
    var physicalVolumeSectors: UInt64?

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("meta-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    var path: String { directory.appendingPathComponent("disk").path }

    func makeDisk(bytes: UInt64) throws {
        try Data().write(to: URL(fileURLWithPath: path))
        try resize(bytes)
    }

    func resize(_ bytes: UInt64) throws {
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.truncate(atOffset: bytes)
        try file.close()
    }

    func put(_ bytes: [UInt8], at offset: UInt64) throws {
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.seek(toOffset: offset)
        try file.write(contentsOf: bytes)
        try file.close()
    }

    func bytes(at offset: UInt64, _ count: Int) throws -> [UInt8] {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        try file.seek(toOffset: offset)
        let data = try file.read(upToCount: count) ?? Data()
        try file.close()
        return Array(data)
    }

    @discardableResult
    func run(_ arguments: String..., index: String = "internal", device: String = "-") -> Int32 {
        output = ""
        errors = ""
        return MetaTool.run(
            arguments: [device, "v08", path, index] + arguments, console: console, host: host)
    }

    func runWords(_ arguments: [String]) -> Int32 {
        output = ""
        errors = ""
        return MetaTool.run(arguments: arguments, console: console, host: host)
    }

    var console: MetaConsole {
        MetaConsole(
            write: { [unowned self] in output += $0 }, writeError: { [unowned self] in errors += $0 },
            readLine: { [unowned self] in answers?.isEmpty == false ? answers?.removeFirst() : nil },
            readAll: { [unowned self] in input }, isInteractive: answers != nil)
    }

    var host: MetaHost {
        MetaHost(
            name: "node-a", now: { 1_769_860_800 }, randomUUID: { 0x1234_5678_9abc_def0 },
            libraryDirectory: directory.path, lockDirectory: directory.path,
            physicalVolumeSectors: { [unowned self] _ in physicalVolumeSectors })
    }
}

/// Golden areas of the core's tests.
enum GoldenAreas {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("ReplicaProtoTests/Vectors/metadata")

    struct Entry: Decodable {
        struct Application: Decodable {
            var exit: Int32
            var stderr: String
        }
        var area_start: UInt64
        var area_length: Int
        var device_size: UInt64
        var meta_disk: String
        var get_gi: String?
        var dstate: String?
        var apply_al: Application?
    }

    static let entries: [String: Entry] = {
        do {
            return try JSONDecoder().decode(
                [String: Entry].self, from: Data(contentsOf: folder.appendingPathComponent("expected.json")))
        } catch { fatalError("expected.json: \(error)") }
    }()

    static func area(_ name: String) throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["gzip", "-dc", folder.appendingPathComponent("\(name).bin.gz").path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Array(data)
    }

    /// A bench whose disk is the golden one.
    static func bench(_ name: String) throws -> (MetaBench, Entry) {
        let bench = try MetaBench()
        let entry = try #require(entries[name])
        try bench.makeDisk(bytes: entry.device_size)
        try bench.put(area(name), at: entry.area_start)
        return (bench, entry)
    }
}

@Suite struct MetaToolTests {
    @Test(arguments: [
        ("int-32m", []), ("int-odd-32m+3584", []), ("int-odd-128m+512", []), ("int-1m", []), ("int-1g", []),
        ("int-1t", []), ("int-64m-stripes-4x64k", ["--al-stripes", "4", "--al-stripe-size-kB=64"]), ("int-32m-4kn", []),
        ("flex-ext-1m", []), ("flex-ext-odd-1m+2560", []), ("indexed-0", []), ("indexed-1", []),
    ] as [(String, [String])]) func item2CreatedIsByteIdentical(name: String, options: [String]) throws {
        let bench = try MetaBench()
        let entry = try #require(GoldenAreas.entries[name])
        try bench.makeDisk(bytes: entry.device_size)
        let status = MetaTool.run(
            arguments: ["-", "v08", bench.path, entry.meta_disk, "create-md"] + options, console: bench.console,
            host: bench.host)
        #expect(status == 0)
        #expect(bench.output.hasSuffix("New drbd meta data block successfully created.\n"))
        #expect(try bench.bytes(at: entry.area_start, entry.area_length) == GoldenAreas.area(name))
        if entry.area_start > 0 {
            let head = Int(min(entry.area_start, 1 << 20))
            #expect(try bench.bytes(at: 0, head).allSatisfy { $0 == 0 })
        }
    }

    @Test(arguments: GoldenAreas.entries.keys.filter { $0.hasPrefix("al-") && $0.hasSuffix(".before") }.sorted())
    func item13ApplyIsByteIdentical(name: String) throws {
        let (bench, entry) = try GoldenAreas.bench(name)
        let after = name.replacing(".before", with: ".after")
        let verdict = try #require(GoldenAreas.entries[after]?.apply_al)
        #expect(bench.run("apply-al") == verdict.exit)
        let golden = try GoldenAreas.area(after)
        #expect(try bench.bytes(at: entry.area_start, entry.area_length) == golden)
        let lines = verdict.stderr.split(separator: "\n").sorted()
        #expect(bench.errors.split(separator: "\n").sorted() == lines)
        if verdict.exit == 0 {
            #expect(bench.run("apply-al") == 0)
            #expect(bench.errors.isEmpty && bench.output.isEmpty)
            #expect(try bench.bytes(at: entry.area_start, entry.area_length) == golden)
            #expect(bench.run("dump-md") == 0)
        } else {
            #expect(bench.run("dump-md") == 1)
            #expect(bench.errors == "Found meta data is \"unclean\", please apply-al first\n")
            #expect(bench.run("dump-md", "--force") == 0)
            bench.input = Array(bench.output.utf8)
            #expect(bench.run("verify-dump") == 10)
        }
    }

    @Test(arguments: ["st-uptodate", "st-outdated", "st-invalidated", "st-restored-bitmap", "indexed-1", "flex-ext-1m"])
    func queries(name: String) throws {
        let (bench, entry) = try GoldenAreas.bench(name)
        #expect(bench.run("get-gi", index: entry.meta_disk) == 0)
        #expect(bench.output == (entry.get_gi ?? "-") + "\n")
        #expect(bench.run("dstate", index: entry.meta_disk) == 0)
        #expect(bench.output == (entry.dstate ?? "-") + "\n")
        #expect(bench.run("show-gi", index: entry.meta_disk) == 0)
        #expect(bench.run("dump-md", index: entry.meta_disk) == 0)
        bench.input = Array(bench.output.utf8)
        #expect(bench.run("verify-dump", index: entry.meta_disk) == 0)
        #expect(bench.output == "input file parsed ok\n")
    }

    /// The steps by which the golden states were made with drbdmeta, made with ours.
    @Test func statesAreByteIdentical() throws {
        let bench = try MetaBench()
        let entry = try #require(GoldenAreas.entries["st-uptodate"])
        try bench.makeDisk(bytes: entry.device_size)
        func expect(_ name: String) throws {
            let area = try bench.bytes(at: entry.area_start, entry.area_length)
            #expect(try area == GoldenAreas.area(name), "\(name)")
        }
        #expect(bench.run("create-md", "--peer-max-bio-size", "1M") == 0)
        #expect(bench.run("write-dev-uuid", "0F1E2D3C4B5A6978") == 0)
        #expect(bench.run("read-dev-uuid") == 0)
        #expect(bench.output == "0F1E2D3C4B5A6978\n")
        let identifiers = "1122334455667788:99AABBCCDDEEFF00:0102030405060708:A1A2A3A4A5A6A7A8:1:1:0:0:0:0:0"
        #expect(bench.run("set-gi", identifiers) == 0)
        #expect(bench.output.hasSuffix("Operation canceled.\n"))
        bench.answers = ["no", "yes"]
        #expect(bench.run("set-gi", identifiers) == 0)
        #expect(bench.output.hasSuffix("Operation canceled.\n"))
        #expect(bench.run("set-gi", identifiers) == 0)
        try expect("st-uptodate")
        #expect(bench.run("outdate") == 0)
        try expect("st-outdated")
        #expect(bench.run("invalidate") == 0)
        try expect("st-invalidated")
        #expect(bench.run("outdate") == 5)
        #expect(bench.errors == "Device is inconsistent.\n")
        bench.answers = ["no", "yes"]
        #expect(bench.run("wipe-md") == 1)
        #expect(bench.run("wipe-md") == 0)
        try expect("st-wiped")
        #expect(bench.run("wipe-md") == 0)
        #expect(bench.errors == "There appears to be no drbd meta data to wipe out?\n")
        for command in ["dump-md", "get-gi", "show-gi", "outdate", "invalidate", "dstate", "read-dev-uuid", "apply-al"] {
            #expect(bench.run(command) == 1)
            #expect(bench.output.isEmpty)
        }
    }

    @Test func item22RestoredBitmap() throws {
        let bench = try MetaBench()
        let entry = try #require(GoldenAreas.entries["st-restored-bitmap"])
        try bench.makeDisk(bytes: entry.device_size)
        let dump = GoldenAreas.folder.appendingPathComponent("st-restored-bitmap.input.txt").path
        #expect(bench.run("restore-md", dump) == 0)
        #expect(bench.output == "Successfully restored meta data\n")
        #expect(try bench.bytes(at: entry.area_start, entry.area_length) == GoldenAreas.area("st-restored-bitmap"))
        #expect(bench.run("restore-md", dump) == 1)
        #expect(bench.run("restore-md", "/nowhere/dump") == 20)
        bench.input = Array("version \"v08\"; uuid }".utf8)
        #expect(bench.run("restore-md") == 10)
        #expect(bench.errors.hasPrefix("-:1: Parse error: '{' expected"))
    }

    @Test func item44RestoreOntoAnotherSize() throws {
        let (bench, _) = try GoldenAreas.bench("st-restored-bitmap")
        #expect(bench.run("dump-md") == 0)
        bench.input = Array(bench.output.utf8)
        for (index, size) in [("internal", 300 << 20), ("flex-external", 2 << 20), ("1", 256 << 20)] {
            let other = try MetaBench()
            try other.makeDisk(bytes: UInt64(size))
            other.input = bench.input
            #expect(other.run("restore-md", index: index) == 0)
            #expect(other.run("apply-al", index: index) == 0)
            #expect(other.output.isEmpty && other.errors.isEmpty)
            #expect(other.run("dump-md", index: index) == 0)
            let tail = try #require(other.output.range(of: "bm {"))
            let original = String(decoding: bench.input, as: UTF8.self)
            let originalTail = try #require(original.range(of: "bm {"))
            #expect(other.output[tail.lowerBound...] == original[originalTail.lowerBound...])
        }
    }

    @Test func item47OfflineGrow() throws {
        let (bench, entry) = try GoldenAreas.bench("st-restored-bitmap")
        #expect(bench.run("check-resize", device: "5") == 0)
        try bench.resize(64 << 20)
        #expect(bench.run("get-gi", device: "5") == 1)
        #expect(bench.run("dump-md", device: "5") == 0)
        #expect(bench.run("check-resize", device: "6") == 1)
        #expect(bench.errors == "no suitable meta data found :(\n")
        #expect(bench.run("check-resize", device: "5") == 0)
        #expect(bench.output == "Internal drbd meta data successfully moved.\n")
        let moved = try #require(GoldenAreas.entries["st-moved-32m-to-64m"])
        #expect(try bench.bytes(at: moved.area_start, moved.area_length) == GoldenAreas.area("st-moved-32m-to-64m"))
        #expect(try bench.bytes(at: entry.area_start + 36864, 4096).allSatisfy { $0 == 0 })
        #expect(bench.run("check-resize", device: "5") == 0)
        // To 1 GiB: the bitmap grows from one page to eight.
        let bitmap = try bench.bytes(at: moved.area_start, 4096)
        try bench.resize(1 << 30)
        #expect(bench.run("apply-al", device: "5") == 0)
        #expect(bench.run("get-gi", device: "5") == 0)
        #expect(try bench.bytes(at: 1_073_672_192, 4096) == bitmap)
        #expect(try bench.bytes(at: 1_073_672_192 + 4096, 7 * 4096).allSatisfy { $0 == 0 })
    }

    /// Every small growth: new areas overlap old ones.
    @Test(arguments: [4096, 8192, 32768, 36864, 40960, 45056, 65536, 101 << 20] as [UInt64])
    func growthWithOverlap(growth: UInt64) throws {
        let (bench, _) = try GoldenAreas.bench("st-restored-bitmap")
        #expect(bench.run("dump-md") == 0)
        let before = bench.output
        #expect(bench.run("check-resize", device: "/dev/drbd5") == 0)
        try bench.resize(33_554_432 + growth)
        #expect(bench.run("check-resize", device: "5") == 0)
        #expect(bench.run("apply-al") == 0)
        #expect(bench.run("dump-md") == 0)
        let after = bench.output
        let start = try #require(after.range(of: "uuid {"))
        let earlier = try #require(before.range(of: "uuid {"))
        #expect(after[start.lowerBound...] == before[earlier.lowerBound...])
        #expect(try bench.bytes(at: 0, 1 << 20).allSatisfy { $0 == 0 })
    }

    @Test func deviceUUIDIsKeptOrRandom() throws {
        let bench = try MetaBench()
        try bench.makeDisk(bytes: 1 << 25)
        func create() -> Int32 {
            MetaTool.createKeepingDeviceUUID(
                device: ["-", "v08", bench.path, "internal"], options: ["--force"], console: bench.console,
                host: bench.host)
        }
        #expect(create() == 0)
        bench.run("read-dev-uuid")
        #expect(bench.output == "123456789ABCDEF0\n")
        bench.run("write-dev-uuid", "00000000000000AA")
        #expect(create() == 0)
        bench.run("read-dev-uuid")
        #expect(bench.output == "00000000000000AA\n")
    }

    @Test func heldByAnotherIsStatus20() throws {
        let (bench, _) = try GoldenAreas.bench("st-uptodate")
        let holder = try MetaDevice(path: bench.path, access: .exclusive)
        #expect(bench.run("outdate") == 20)
        #expect(bench.errors.contains(bench.path))
        #expect(bench.run("get-gi") == 20)
        #expect(bench.run("get-gi", "--force") == 0)
        #expect(bench.run("outdate", "--force") == 20)
        withExtendedLifetime(holder) {}
    }

    @Test func slotsOfAnIndexedDeviceAreHeldSingly() throws {
        let bench = try MetaBench()
        try bench.makeDisk(bytes: 256 << 20)
        let holder = try MetaDevice(path: bench.path, access: .range(0, 128 << 20))
        #expect(bench.run("create-md", index: "1") == 0)
        #expect(bench.run("create-md", index: "0") == 20)
        withExtendedLifetime(holder) {}
    }

    @Test func dryRunWritesNothing() throws {
        let (bench, entry) = try GoldenAreas.bench("al-wrapped.before")
        #expect(bench.run("apply-al", "--dry-run") == 0)
        #expect(bench.output.contains("would write"))
        #expect(try bench.bytes(at: entry.area_start, entry.area_length) == GoldenAreas.area("al-wrapped.before"))
    }

    @Test func badArguments() throws {
        let bench = try MetaBench()
        try bench.makeDisk(bytes: 1 << 25)
        #expect(bench.run("frobnicate") == 20)
        #expect(bench.run("create-md", index: "256") == 20)
        #expect(bench.run("create-md", "--what") == 20)
        #expect(bench.run("create-md", "--peer-max-bio-size", "2M") == 10)
        #expect(bench.run("create-md", "--al-stripe-size-kB", "28") == 10)
        #expect(bench.run("create-md", "--al-stripe-size-kB", "33", "--force") == 0)
        #expect(bench.run("create-md", index: "0") == 10)
        #expect(bench.run("set-gi") == 10)
        #expect(bench.run("set-gi", "nonsense") == 10)
        try bench.makeDisk(bytes: 65536)
        #expect(bench.run("create-md") == 10)
        #expect(bench.errors == "\(bench.path) is only 65536 bytes. That's not enough.\n")
        #expect(bench.runWords(["-", "v08", "/dev/null", "internal", "dump-md"]) == 20)
        #expect(bench.errors.contains("'/dev/null' is not a block device!"))
        #expect(bench.runWords(["-", "v08", "/nowhere", "internal", "dump-md"]) == 20)
        #expect(bench.runWords(["-", "v07", bench.path, "internal", "dump-md"]) == 20)
        #expect(bench.runWords([]) == 20)
    }
}
