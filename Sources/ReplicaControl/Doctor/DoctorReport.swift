/// What the doctor prints.
enum DoctorReport {
    /// For people: a block for each finding, an empty line between them.
    static func text(_ resource: String, _ findings: [Finding], width: Int = 100) -> String {
        findings.map { block(resource, $0, width) }.joined(separator: "\n")
    }

    private static func block(_ resource: String, _ finding: Finding, _ width: Int) -> String {
        let word = finding.severity == .danger ? "DANGER" : finding.severity.name
        var text = "\(resource): \(word): \(finding.heading)\n"
        for paragraph in finding.explanation { text += wrapped(paragraph, indent: 4, width) }
        for choice in finding.choices where !choice.steps.isEmpty {
            if !choice.title.isEmpty { text += wrapped(choice.title + ":", indent: 4, width) }
            for step in choice.steps {
                switch step {
                // Never broken: it is there to be copied.
                case .type(let node, let command): text += "        on \(node): \(command)\n"
                case .advice(let advice): text += wrapped("(\(advice))", indent: 8, width)
                }
            }
        }
        return text
    }

    static func wrapped(_ text: String, indent: Int, _ width: Int) -> String {
        let margin = String(repeating: " ", count: indent)
        var result = ""
        var line = margin
        for word in text.split(separator: " ") {
            if line.count > indent, line.count + 1 + word.count > width {
                result += line + "\n"
                line = margin
            }
            line += (line.count > indent ? " " : "") + word
        }
        return result + line + "\n"
    }

    // MARK: JSON

    /// One array of resources, as `status --json` has it.
    static func json(_ resources: [(name: String, node: String, findings: [Finding])]) -> String {
        if resources.isEmpty { return "[\n]\n" }
        let objects = resources.map { resource in
            let severity = resource.findings.map(\.severity).max() ?? .ok
            var text =
                "{\n  \"name\": \(StatusJSON.string(resource.name)),\n  \"node\": \(StatusJSON.string(resource.node)),\n"
            text += "  \"severity\": \"\(severity.name)\",\n  \"findings\": ["
            text += resource.findings.map { "\n" + json($0) }.joined(separator: ",")
            return text + (resource.findings.isEmpty ? "]\n}" : "\n  ]\n}")
        }
        return "[\n" + objects.joined(separator: ",\n") + "\n]\n"
    }

    private static func json(_ finding: Finding) -> String {
        func list(_ items: [String]) -> String { items.isEmpty ? "[]" : "[ " + items.joined(separator: ", ") + " ]" }
        let choices = finding.choices.map { choice in
            let steps = choice.steps.map { step in
                switch step {
                case .type(let node, let command):
                    "{ \"node\": \(StatusJSON.string(node)), \"command\": \(StatusJSON.string(command)) }"
                case .advice(let advice): "{ \"advice\": \(StatusJSON.string(advice)) }"
                }
            }
            return "{ \"title\": \(StatusJSON.string(choice.title)), \"steps\": \(list(steps)) }"
        }
        return "    { \"situation\": \"\(finding.situation.rawValue)\", \"severity\": \"\(finding.severity.name)\",\n"
            + "      \"heading\": \(StatusJSON.string(finding.heading)),\n"
            + "      \"explanation\": \(list(finding.explanation.map(StatusJSON.string))),\n"
            + "      \"choices\": \(list(choices)) }"
    }
}
