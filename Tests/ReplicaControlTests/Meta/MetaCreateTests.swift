import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

@Suite struct MetaCreateTests {
    /// A beginning of a device with one signature.
    private static func head(_ text: [UInt8], at offset: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: ExistingData.inspectedBytes)
        bytes.replaceSubrange(offset..<offset + text.count, with: text)
        return bytes
    }

    private static func ext(blocks: UInt32, hasJournal: Bool = true, shift: UInt8 = 2) -> [UInt8] {
        var bytes = head([0x53, 0xef], at: 0x438)
        for byte in 0..<4 { bytes[0x404 + byte] = UInt8(truncatingIfNeeded: blocks >> UInt32(8 * byte)) }
        bytes[0x418] = shift
        bytes[0x45c] = hasJournal ? 0x3c : 0x38
        return bytes
    }

    @Test func signatures() {
        #expect(ExistingData([UInt8](repeating: 0, count: 69632)) == .nothing)
        #expect(ExistingData(Self.head([1], at: 69631)) == .something)
        for place in [4086, 8182] {
            #expect(
                ExistingData(Self.head(Array("SWAPSPACE2".utf8), at: place))
                    == .recognised("swap space signature", usedBytes: nil))
        }
        #expect(ExistingData(Self.head(Array("LVM2 001".utf8), at: 0x218)) == .logicalVolumeManager)
        #expect(ExistingData(Self.ext(blocks: 100)) == .recognised("ext3 filesystem", usedBytes: 409_600))
        #expect(
            ExistingData(Self.ext(blocks: 100, hasJournal: false, shift: 0))
                == .recognised("ext2 filesystem", usedBytes: 102_400))
        #expect(
            ExistingData(Self.ext(blocks: 100, shift: 9)) == .recognised("ext3 filesystem", usedBytes: 409_600))
        let xfs: [UInt8] = Array("XFSB".utf8) + [0, 0, 0x10, 0] + [0, 0, 0, 0, 0, 0, 1, 0]
        #expect(ExistingData(Self.head(xfs, at: 0)) == .recognised("xfs filesystem", usedBytes: 1 << 20))
        let endless: [UInt8] = Array("XFSB".utf8) + [UInt8](repeating: 0xff, count: 12)
        #expect(ExistingData(Self.head(endless, at: 0)) == .recognised("xfs filesystem", usedBytes: .max))
        #expect(ExistingData(Array("LVM2".utf8)) == .something)
    }

    @Test func item45RefusesAndAsks() throws {
        let bench = try MetaBench()
        func disk(_ head: [UInt8]) throws {
            try? FileManager.default.removeItem(atPath: bench.path)
            try bench.makeDisk(bytes: 32 << 20)
            try bench.put(head, at: 0)
            bench.answers = []
        }
        // Fills the device: never.
        try disk(Self.ext(blocks: 8192))
        for options in [[], ["--force"], ["--ignore-sanity-checks", "--force"]] {
            let status = MetaTool.run(
                arguments: ["-", "v08", bench.path, "internal", "create-md"] + options, console: bench.console,
                host: bench.host)
            #expect(status == 40)
        }
        #expect(bench.output.contains("Found ext3 filesystem\n"))
        #expect(bench.errors.contains("Device size would be truncated, which would corrupt data"))
        #expect(bench.errors.hasSuffix("Operation refused.\n"))
        #expect(bench.run("create-md", index: "flex-external") == 40)
        #expect(bench.errors.contains("This would corrupt existing data."))
        // 65456 sectors are usable: 8182 blocks fit exactly.
        try disk(Self.ext(blocks: 8183))
        #expect(bench.run("create-md") == 40)
        try disk(Self.ext(blocks: 8182))
        bench.answers = ["no", "yes"]
        #expect(bench.run("create-md") == 1)
        #expect(bench.errors.hasSuffix("Operation canceled.\n"))
        #expect(bench.run("create-md") == 0)

        try disk(Self.head(Array("SWAPSPACE2".utf8), at: 4086))
        #expect(bench.run("create-md", "--force") == 40)
        #expect(bench.run("create-md", "--ignore-sanity-checks") == 0)
        try disk(Self.head(Array("LVM2".utf8), at: 0x218))
        #expect(bench.run("create-md") == 40)
        bench.physicalVolumeSectors = 65457
        #expect(bench.run("create-md") == 40)
        bench.physicalVolumeSectors = 65456
        bench.answers = ["yes"]
        #expect(bench.run("create-md") == 0)

        try disk([1])
        bench.answers = ["YES"]
        #expect(bench.run("create-md") == 1)
        #expect(bench.output.contains("Found some data\n\n ==> This might destroy existing data! <==\n"))
        bench.answers = ["yes"]
        #expect(bench.run("create-md") == 0)
    }

    @Test(arguments: [
        ("int-32m", "v08", "Do you really want to overwrite the existing meta-data?"),
        ("recog-v07-flex-internal", "v07", "So you want me to replace the v07 meta-data"),
        ("recog-v07-fixed-internal", "v07", "So you want me to replace the v07 meta-data"),
        ("recog-v09-internal", "v09", "So you want me to replace the v09 meta-data"),
    ]) func item45ExistingMetadataIsAskedFor(name: String, format: String, question: String) throws {
        let (bench, entry) = try GoldenAreas.bench(name)
        #expect(bench.run("create-md") == 1)
        #expect(bench.errors.contains("stdin not a TTY, not waiting for confirmation\n"))
        #expect(bench.errors.hasSuffix("Operation cancelled.\n"))
        #expect(try bench.bytes(at: entry.area_start, entry.area_length) == GoldenAreas.area(name))
        bench.answers = ["yes"]
        #expect(bench.run("create-md") == 0)
        #expect(bench.errors.contains("There appears to be a \(format) flexible-size internal meta data block\n"))
        #expect(bench.errors.contains(question))
        #expect(bench.errors.contains("[need to type 'yes' to confirm] "))
        #expect(bench.run("get-gi") == 0)
    }

    @Test func existingExternalMetadataIsAskedForTwice() throws {
        let (bench, _) = try GoldenAreas.bench("flex-ext-1m")
        bench.answers = ["yes", "no"]
        #expect(bench.run("create-md", index: "flex-external") == 1)
        #expect(bench.errors.contains("Valid meta data seems to be in place.\nDo you really want to overwrite?"))
        bench.answers = ["yes", "yes"]
        #expect(bench.run("create-md", index: "flex-external") == 0)
        #expect(bench.run("create-md", "--force", index: "flex-external") == 0)
        #expect(bench.errors.contains("*** confirmation forced via --force option ***\n"))
    }

    @Test(arguments: ["recog-v07-flex-internal", "recog-v09-internal"])
    func item8OtherFormatsAreNamed(name: String) throws {
        let (bench, _) = try GoldenAreas.bench(name)
        #expect(bench.run("dump-md") == 1)
        #expect(bench.errors.contains("found \(name.dropFirst(6).prefix(3)) metadata"))
    }
}
