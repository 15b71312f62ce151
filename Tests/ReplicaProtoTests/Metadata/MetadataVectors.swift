import Foundation

@testable import ReplicaProto

/// Golden metadata areas (`Vectors/metadata`, `Vectors/metadata-kernel`; each folder's README says where they are from).
enum MetadataVectors {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Vectors")

    /// One entry of expected.json.
    struct Expected: Decodable {
        struct Fields: Decodable {
            var al_nr_extents: UInt32
            var al_offset: Int32
            var al_stripe_size_4k: UInt32
            var al_stripes: UInt32
            var bitmap_uuid: String
            var bm_bytes_per_bit: UInt32
            var bm_offset: Int32
            var current_uuid: String
            var device_uuid: String
            var flags: String
            var history_uuids: [String]
            var la_peer_max_bio_size: UInt32
            var la_size_sect: UInt64
            var magic: String
            var md_size_sect: UInt32
        }
        struct Application: Decodable {
            var exit: Int32
            var stderr: String
        }
        var area_start: UInt64
        var area_length: UInt64
        var device_size: UInt64
        var meta_disk: String
        var format: String?
        var superblock_at: UInt64?
        var al_at: UInt64?
        var bm_at: UInt64?
        var usable_sectors_by_metadata: UInt64?
        var bitmap_bit_ranges: [[UInt64]]?
        var superblock: Fields?
        var get_gi: String?
        var dstate: String?
        var dump_exit: Int32?
        var apply_al: Application?

        var index: MetadataIndex {
            switch meta_disk {
            case "internal", "flex-internal": .internal
            case "flex-external": .flexible
            default: .indexed(UInt32(meta_disk) ?? 0)
            }
        }
    }

    static let expected: [String: Expected] = {
        do {
            return try JSONDecoder().decode(
                [String: Expected].self, from: Data(contentsOf: folder.appendingPathComponent("metadata/expected.json")))
        } catch {
            fatalError("expected.json: \(error)")
        }
    }()

    /// Names with a v08 superblock, sorted.
    static let names = expected.filter { $0.value.superblock != nil && $0.key != "st-wiped" }.keys.sorted()

    static func area(_ name: String) throws -> [UInt8] {
        try unzip("metadata/\(name).bin.gz")
    }

    static func text(_ name: String) throws -> String {
        try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
    }

    /// Decompresses a vector with the system's gzip.
    static func unzip(_ name: String) throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["gzip", "-dc", folder.appendingPathComponent(name).path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.fileReadCorruptFile) }
        return Array(data)
    }

    /// Parts of an area, by its entry.
    struct Parts {
        var superblock: [UInt8]
        var ring: [UInt8]
        var bitmap: [UInt8]
    }

    static func parts(_ name: String) throws -> (Expected, Parts) {
        guard let entry = expected[name], let superblock = entry.superblock, let superblockAt = entry.superblock_at,
            let logAt = entry.al_at, let bitmapAt = entry.bm_at
        else { throw CocoaError(.fileNoSuchFile) }
        let area = try area(name)
        func cut(_ start: UInt64, _ count: UInt64) -> [UInt8] {
            let first = Int(start - entry.area_start)
            return Array(area[first..<min(area.count, first + Int(count))])
        }
        let ringBytes = UInt64(superblock.al_stripes) * UInt64(superblock.al_stripe_size_4k) * 4096
        let bitmapEnd = entry.index == .internal ? logAt : entry.area_start + entry.area_length
        let bitmapBytes = bitmapEnd - bitmapAt
        return (
            entry,
            Parts(
                superblock: cut(superblockAt, 4096), ring: cut(logAt, ringBytes), bitmap: cut(bitmapAt, bitmapBytes))
        )
    }
}
