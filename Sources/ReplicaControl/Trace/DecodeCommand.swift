import Glibc
import ReplicaProto

/// `replctl decode FILE...`: explains what a file of ours, or of anybody who speaks DRBD, says: a capture, a superblock,
/// an image with internal metadata, an activity log.
struct DecodeCommand {
    let console: Console
    let path: String

    /// Bytes of a capture that are read at most.
    private static let maximumCapture = 1 << 30

    /// - Returns: the exit code: 0; 1 if some of it makes no sense; 20 if the file can't be read or is something else.
    func run() -> Int32 {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return refuse(ConfigFiles.errorText()) }
        defer { close(descriptor) }
        let end = lseek(descriptor, 0, SEEK_END)
        guard end >= 0, let head = read(descriptor, at: 0, min(Int(end), Superblock.blockBytes)) else {
            return refuse(ConfigFiles.errorText())
        }
        if CaptureReader.looksLikeCapture(head) {
            guard end <= Self.maximumCapture, let bytes = read(descriptor, at: 0, Int(end)) else {
                return refuse("a capture of more than \(Self.maximumCapture >> 20) MiB: cut it into pieces (editcap -c)")
            }
            return explainCapture(bytes)
        }
        if Superblock.format(of: head) != nil { return explainMetadata(descriptor, end, superblockAt: 0, head) }
        if ActivityLogText.looksLikeLog(head) {
            guard end <= Self.maximumCapture, let bytes = read(descriptor, at: 0, Int(end)) else {
                return refuse(ConfigFiles.errorText())
            }
            console.writeOutput(ActivityLogText.text(bytes, ActivityLogGeometry(stripes: 1, stripeBlocks: max(1, UInt32(bytes.count / 4096)))))
            return 0
        }
        if let sector = MetadataLayout.superblockSector(.internal, deviceSectors: UInt64(end) / 512),
            let block = read(descriptor, at: Int(sector) * 512, Superblock.blockBytes), Superblock.format(of: block) != nil
        {
            return explainMetadata(descriptor, end, superblockAt: Int(sector) * 512, block)
        }
        return refuse("neither a capture nor metadata nor an activity log")
    }

    private func refuse(_ reason: String) -> Int32 {
        console.complain("\(path): \(reason)")
        return 20
    }

    private func read(_ descriptor: Int32, at offset: Int, _ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let result = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress! + done, count - done, off_t(offset + done)) }
            if result <= 0 { return nil }
            done += result
        }
        return bytes
    }

    // MARK: Captures

    private func explainCapture(_ bytes: [UInt8]) -> Int32 {
        var reader = CaptureReader(bytes)
        var decoder = CaptureDecoder()
        do throws(CaptureError) {
            try reader.segments { segment in decoder.take(segment) { console.print($0) } }
        } catch { return refuse(error.message) }
        for problem in decoder.malformed { console.complain("\(path): malformed: \(problem)") }
        if decoder.packets == 0 { return refuse("no packet of DRBD in it") }
        return decoder.malformed.isEmpty ? 0 : 1
    }

    // MARK: Metadata

    private func explainMetadata(_ descriptor: Int32, _ end: off_t, superblockAt offset: Int, _ block: [UInt8]) -> Int32 {
        let superblock: Superblock
        do throws(MetadataError) { superblock = try Superblock(decoding: block) } catch { return refuse(error.message) }
        console.writeOutput(SuperblockText.text(superblock, at: offset))
        let log = offset + Int(superblock.activityLogOffset) * 512
        let size = Int(ActivityLogGeometry(superblock).blocks) * ActivityLogTransaction.blockBytes
        guard log >= 0, log + size <= Int(end), let ring = read(descriptor, at: log, size) else {
            console.print("activity log: not in this file")
            return 0
        }
        console.writeOutput(ActivityLogText.text(ring, ActivityLogGeometry(superblock)))
        return 0
    }
}
