import ReplicaProto
import Testing

@Suite struct StateWordTests {
    /// The examples of `wire.md` 6.1, and requests as the kernel packs them (6.5).
    @Test func knownWords() {
        var state = VolumeState()
        state.role = .primary
        state.peerRole = .secondary
        state.connection = .connected
        state.disk = .upToDate
        state.peerDisk = .upToDate
        #expect(state.word == 0x0001_10a9)
        state.role = .secondary
        state.peerRole = .primary
        #expect(state.word == 0x0001_10a6)
        state.connection = .syncTarget
        state.disk = .inconsistent
        #expect(state.word == 0x0001_0916)
    }

    @Test func everyWordThatNamesAStateComesBack() {
        var decoded = 0
        for word in UInt32(0)..<(1 << 17) {
            guard let state = VolumeState(word: word) else { continue }
            decoded += 1
            #expect(state.word == word)
        }
        #expect(decoded == 3 * 3 * 24 * 9 * 9)
        for bit in 17...22 {
            let word = UInt32(1) << UInt32(bit)
            #expect(VolumeState(word: word)?.word == word)
        }
    }

    @Test(arguments: [
        UInt32(3), 0xc, 24 << 4, 31 << 4, 9 << 9, 15 << 9, 9 << 13, 15 << 13, .max,
    ]) func unknownValuesAreRefused(word: UInt32) {
        #expect(VolumeState(word: word) == nil)
    }

    @Test func bitsAboveTheWordAreIgnored() {
        #expect(VolumeState(word: 0xff80_0000) == VolumeState(word: 0))
    }

    /// `wire.md` 6.5: what each request of DRBD does at its receiver.
    @Test(arguments: [
        // promote
        (StateChange(mask: 0x3, value: 0x1), StateChange(mask: 0xc, value: 0x4)),
        // forced promotion
        (StateChange(mask: 0x1e03, value: 0x1001), StateChange(mask: 0x1e00c, value: 0x10004)),
        // invalidate, invalidate-remote
        (StateChange(mask: 0x1f0, value: 0xc0), StateChange(mask: 0x1f0, value: 0xb0)),
        (StateChange(mask: 0x1f0, value: 0xb0), StateChange(mask: 0x1f0, value: 0xc0)),
        // verify
        (StateChange(mask: 0x1f0, value: 0x120), StateChange(mask: 0x1f0, value: 0x130)),
        // detach
        (StateChange(mask: 0x1e00, value: 0x400), StateChange(mask: 0x1e000, value: 0x4000)),
        // disconnect, outdate peer, outdate myself
        (StateChange(mask: 0x1f0, value: 0x10), StateChange(mask: 0x1f0, value: 0x70)),
        (StateChange(mask: 0x1e1f0, value: 0xa010), StateChange(mask: 0x1ff0, value: 0xa70)),
        (StateChange(mask: 0x1ff0, value: 0xa10), StateChange(mask: 0x1e1f0, value: 0xa070)),
    ]) func requestsSeenFromTheOtherSide(sent: StateChange, seen: StateChange) {
        #expect(sent.mirrored() == seen)
    }

    @Test func pausesArriveAsOne() {
        let sent = StateChange(mask: 1 << 18 | 1 << 20, value: 1 << 20)
        #expect(sent.mirrored() == StateChange(mask: 1 << 19, value: 1 << 19))
    }

    @Test func nobodyFreezesAnothersIO() {
        let bits: UInt32 = 1 << 17 | 1 << 19 | 1 << 21 | 1 << 22 | 0xff80_0000
        #expect(StateChange(mask: bits, value: bits).mirrored() == StateChange(mask: 0, value: 0))
    }

    @Test func noRequestTraps() {
        var words = SplitMix(seed: 7)
        for _ in 0..<20_000 {
            let change = StateChange(mask: words.next32(), value: words.next32())
            _ = change.mirrored().applied(to: VolumeState())
            _ = change.applied(to: VolumeState())
        }
    }
}

/// SplitMix64, for tests that want many values and always the same.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
    mutating func next32() -> UInt32 { UInt32(truncatingIfNeeded: next()) }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
