import CLinux
import Glibc
import ReplicaProto

/// What lies on a volume's disk where its metadata should be. Only reads, and waits for a disk for so long and no longer.
struct DiskLook {
    private static let milliseconds: Int32 = 900
    let path: String
    let index: MetadataIndex
    let minor: UInt32
    var libraryDirectory = MetaHost.standard.libraryDirectory

    func look() -> MetadataEvidence {
        let start = read(at: 0, count: ExistingData.inspectedBytes)
        guard let bytes = start.bytes else { return .unreadable(start.error) }
        let sectors = start.size / 512
        guard start.size >= UInt64(ExistingData.inspectedBytes),
            let place = MetadataLayout.superblockSector(index, deviceSectors: sectors)
        else { return .tooSmall(bytes: start.size) }
        let block = read(at: place * 512, count: Superblock.blockBytes)
        guard let superblock = block.bytes else { return .unreadable(block.error) }
        do throws(MetadataError) {
            let found = try Superblock(decoding: superblock)
            _ = try MetadataLayout(index, superblock: found, deviceSectors: sectors)
            return .good(found.flags, found.identifiers)
        } catch {
            switch error {
            case .noMagic, .truncated: break
            case .otherFormat(let format): return .otherFormat(format.rawValue)
            default: return .damaged(error.message)
            }
        }
        if let old = lastSize(), old < start.size, isThere(endingAt: old) {
            return .moved(fromBytes: old, toBytes: start.size)
        }
        do throws(MetadataError) {
            _ = try MetadataLayout(index, deviceSectors: sectors)
        } catch { return .tooSmall(bytes: start.size) }
        guard let data = ExistingData(bytes).name else { return .blank }
        return .otherData(data)
    }

    /// The size that the disk had when it was last in use, and whose it was.
    private func lastKnown() -> (size: UInt64, uuid: UInt64)? {
        guard index == .internal, let bytes = ConfigFiles.read("\(libraryDirectory)/drbd-minor-\(minor).lkbd") else {
            return nil
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first?.split(separator: "\t").first, let size = UInt64(first) else { return nil }
        let uuid = lines.dropFirst().first.flatMap { line in
            line.hasPrefix("uuid:\t") ? GenerationText.parseHex(line.dropFirst(6), digits: nil) : nil
        }
        return (size, uuid ?? 0)
    }

    private func lastSize() -> UInt64? { lastKnown()?.size }

    private func isThere(endingAt size: UInt64) -> Bool {
        guard let place = MetadataLayout.superblockSector(.internal, deviceSectors: size / 512),
            let block = read(at: place * 512, count: Superblock.blockBytes).bytes
        else { return false }
        do throws(MetadataError) {
            let found = try Superblock(decoding: block)
            _ = try MetadataLayout(.internal, superblock: found, deviceSectors: size / 512)
            return found.deviceUUID == lastKnown()?.uuid
        } catch { return false }
    }

    private func read(at offset: UInt64, count: Int) -> (bytes: [UInt8]?, size: UInt64, error: String) {
        var bytes = [UInt8](repeating: 0, count: count)
        var size: UInt64 = 0
        let result = bytes.withUnsafeMutableBytes {
            clinux_look(path, offset, $0.baseAddress, count, Self.milliseconds, &size)
        }
        if result < 0 {
            let number = Int32(-result)
            return (nil, size, number == ETIMEDOUT ? "it does not answer" : ConfigFiles.errorText(number))
        }
        return (Array(bytes.prefix(Int(result))), size, "")
    }
}
