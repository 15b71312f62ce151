/// Numbers of refused commands, their texts and the exit codes they lead to (`control.md` 2.4 and 2.11).
///
/// | code      | kind                         | exit code          |
/// |----------:|------------------------------|--------------------|
/// | 1...9     | done, with a remark          | 0 (5: wait timeout)|
/// | 0         | done                         | 0                  |
/// | -21...-1  | state change refused         | 11, some others    |
/// | 101...170 | configuration request failed | 10                 |
package enum CommandErrorText {
    /// Codes of configuration errors that other parts name.
    package static let minorNotAllocated: Int32 = 127
    package static let unknownResource: Int32 = 158
    package static let waitTimeout: Int32 = 5

    /// The text behind a number; nil for numbers that mean success.
    package static func text(_ code: Int32) -> String? {
        switch code {
        case 0...9: nil
        case ...(-1): stateErrors.first { $0.code == code }?.text ?? unknown
        default: configurationErrors.first { $0.code == code }?.text ?? unknown
        }
    }

    /// The exit code of the low-level tool.
    package static func exitCode(_ code: Int32) -> Int32 {
        switch code {
        case waitTimeout: 5
        // SS_ALREADY_STANDALONE
        case 0...9, -9: 0
        case -2: 17
        case -4: 16
        case -16: 5
        case ...(-1): 11
        default: 10
        }
    }

    /// The lines of a failed command: `OBJECT: State change failed: (-2) ...` or `OBJECT: Failure: (127) ...`.
    /// - Parameter info: what the daemon adds; empty for none.
    package static func lines(_ code: Int32, object: String, info: String) -> [String] {
        guard let text = text(code), exitCode(code) != 0 else { return [] }
        let kind = code < 0 ? "State change failed" : "Failure"
        var lines = ["\(object): \(kind): (\(code)) \(text)"]
        if !info.isEmpty {
            lines.append("additional info from kernel:")
            lines += info.split(separator: "\n").map(String.init)
        }
        return lines
    }

    private static let unknown = "Unknown... maybe API_VERSION mismatch?"

    private static let stateErrors: [(code: Int32, text: String)] = [
        (-1, "Multiple primaries not allowed by config"),
        (-2, "Need access to UpToDate data"),
        (-4, "Can not resync without local disk"),
        (-5, "Can not resync without remote disk"),
        (-6, "Refusing to be Outdated while Connected"),
        (-7, "Refusing to be Primary while peer is not outdated"),
        (-8, "Can not start OV/resync since it is already active"),
        (-9, "Can not disconnect a StandAlone device"),
        (-10, "State change was refused by peer node"),
        (-11, "Device is diskless, the requested operation requires a disk"),
        (-12, "Device is held open by someone"),
        (-13, "Have no net/connection configuration"),
        (-14, "Need a verify algorithm to start online verify"),
        (-15, "Need a connection to start verify or resync"),
        (-16, "Disk state is lower than outdated"),
        (-17, "Peer does not support protocol"),
        (-18, "In transient state, retry after next state change"),
        (-19, "Concurrent state changes detected and aborted"),
        (-20, "Other vol primary on peer not allowed by config"),
        (-21, "Need a connection for a graceful disconnect/outdate peer"),
    ]

    private static let configurationErrors: [(code: Int32, text: String)] = [
        (102, "Local address(port) already in use."),
        (103, "Remote address(port) already in use."),
        (104, "Can not open backing device."),
        (105, "Can not open meta device."),
        (107, "Lower device is not a block device."),
        (108, "Meta device is not a block device."),
        (111, "Low.dev. smaller than requested DRBD-dev. size."),
        (112, "Meta device too small."),
        (114, "Lower device is already claimed. This usually means it is mounted."),
        (115, "Meta device is already claimed."),
        (116, "Lower device / meta device / index combination invalid."),
        (118, "I/O error(s) occurred during initial access to meta-data."),
        (119, "No valid meta-data signature found.\n\n\t==> Use 'replctl create-md res' to initialize meta-data area. <=="),
        (120, "The 'cram-hmac-alg' you specified is not known."),
        (121, "The 'cram-hmac-alg' you specified is not a digest."),
        (122, "Out of memory."),
        (123, "--discard-my-data not allowed when primary."),
        (124, "Device is attached to a disk (use detach first)"),
        (125, "Device has a net-config (use disconnect first)"),
        (126, "Unknown mandatory attribute."),
        (127, "Device minor not allocated"),
        (129, "Interrupted by signal."),
        (130, "Resize not allowed during resync."),
        (131, "Need one Primary node to resize."),
        (132, "The resync-after minor number is invalid"),
        (133, "This would cause a resync-after dependency cycle"),
        (134, "Sync-pause flag is already set"),
        (135, "Sync-pause flag is already cleared"),
        (137, "The daemon does not know this request. (version mismatch)"),
        (138, "Device does not have a disk-config"),
        (139, "Protocol C required"),
        (140, "Out of memory for the bitmap."),
        (141, "The 'data-integrity-alg' you specified is not known."),
        (142, "The 'data-integrity-alg' you specified is not a digest."),
        (143, "Invalid cpu-mask."),
        (144, "The 'csums-alg' you specified is not available."),
        (145, "The 'csums-alg' you specified is not a digest."),
        (146, "The 'verify-alg' you specified is not available."),
        (147, "The 'verify-alg' you specified is not a digest."),
        (148, "Can not change csums-alg while resync is in progress"),
        (149, "Can not change verify-alg while online verify runs"),
        (150, "Can only attach to the data we lost last (see kernel log)."),
        (151, "Need to be StandAlone"),
        (152, "Permission denied: root is needed."),
        (153, "Need protocol 93 for '--assume-clean'"),
        (154, "Fencing policy resource-and-stonith only with protocol B or C"),
        (155, "on-congestion policy pull-ahead only with protocol A"),
        (156, "Sync-pause flag is already cleared.\nNote: Resync paused due to a resync-after dependency."),
        (157, "Sync-pause flag is already cleared.\nNote: Resync paused by the peer node."),
        (158, "Unknown resource"),
        (159, "Resource still in use (delete all minors first)"),
        (160, "Minor still configured (down it first)"),
        (161, "Minor or volume exists already (delete it first)"),
        (162, "Invalid configuration request"),
        (163, "Need protocol 100 to change this option online"),
        (164, "Can not clear allow-two-primaries as long as there is a primary on both sides"),
        (165, "Unclean meta-data found; 'apply-al' is needed"),
        (166, "Changing the activity log layout online needs a connection"),
        (167, "The activity log would be too big"),
        (168, "The activity log would be too small"),
        (169, "The activity log does not fit"),
        (170, "Implicit device shrinking not allowed. See kernel log."),
    ]
}
