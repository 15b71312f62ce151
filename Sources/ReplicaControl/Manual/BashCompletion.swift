import ReplicaProto

/// Completions for bash: commands, their options, the options' values, and the names of resources.
enum BashCompletion {
    static var text: String {
        let commands = CommandTable.all
        let listed = commands.filter { $0.group == .usual || $0.group == .ours || $0.group == .expert }
        let nameless = commands.filter { $0.scope == .none && $0.name != "decode" }.map(\.name)
        var text = """
            # bash completion for replctl, and for its links drbdadm, drbdsetup and drbdmeta
            # Generated from the tables of replctl by `make manual`: change it there.
            # shellcheck shell=bash disable=SC2207

            # The values of an option that has some.
            _replctl_values() {
                case $1 in

            """
        for (choices, names) in choices() {
            text += "        \(names.map { "--" + $0 }.joined(separator: " | "))) echo \"\(choices)\" ;;\n"
        }
        text += """
                *) return 1 ;;
                esac
            }

            # The options of a command.
            _replctl_options() {
                case $1 in

            """
        for (options, names) in options(commands) {
            text += "        \(names.joined(separator: " | ")))\n            echo \"\(options)\"\n            ;;\n"
        }
        text += """
                esac
            }

            _replctl() {
                local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command="" word index
                local general="\(general)"
                local commands="\(lines(listed.map(\.name) + ["help", "setup", "meta"], indent: 8))"
                COMPREPLY=()
                # --option=value comes in three words.
                if [[ $current = "=" ]]; then
                    current="" word=$previous
                elif [[ $previous = "=" ]]; then
                    word=${COMP_WORDS[COMP_CWORD - 2]}
                else
                    word=""
                fi
                if [[ -n $word ]]; then
                    if [[ $word = --config-file || $word = --config-to-test || $word = --pcap ]]; then
                        COMPREPLY=($(compgen -f -- "$current"))
                    else
                        COMPREPLY=($(compgen -W "$(_replctl_values "$word")" -- "$current"))
                    fi
                    return
                fi
                case $previous in
                -c | -t)
                    COMPREPLY=($(compgen -f -- "$current"))
                    return
                    ;;
                esac
                for ((index = 1; index < COMP_CWORD; index++)); do
                    case ${COMP_WORDS[index]} in
                    -c | -t | -s | -m | -p | -n | -P | -W) index=$((index + 1)) ;;
                    -* | = | /*) ;;
                    *)
                        # What follows an equals sign is a value.
                        [[ ${COMP_WORDS[index - 1]} != "=" ]] || continue
                        command=${COMP_WORDS[index]}
                        break
                        ;;
                    esac
                done
                if [[ $current = -* ]]; then
                    COMPREPLY=($(compgen -W "$general $(_replctl_options "$command")" -- "$current"))
                    for index in "${!COMPREPLY[@]}"; do
                        [[ ${COMPREPLY[index]} = *= ]] && compopt -o nospace 2>/dev/null
                    done
                    return
                fi
                case $command in
                "" | help) COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
                decode) COMPREPLY=($(compgen -f -- "$current")) ;;
                setup) COMPREPLY=($(compgen -W "\(SetupTool.commands.joined(separator: " "))" -- "$current")) ;;
                \(nameless.joined(separator: " | "))) ;;
                meta) ;;
                *) COMPREPLY=($(compgen -W "all $("${COMP_WORDS[0]}" sh-resources 2>/dev/null)" -- "$current")) ;;
                esac
            }

            _replctl_setup() {
                COMPREPLY=()
                if ((COMP_CWORD == 1)); then
                    COMPREPLY=($(compgen -W "\(SetupTool.commands.joined(separator: " "))" -- "${COMP_WORDS[COMP_CWORD]}"))
                fi
            }

            complete -F _replctl replctl
            # The links, where they are ours.
            if [[ $(readlink -f "$(type -P drbdadm)") = */replctl ]]; then complete -F _replctl drbdadm; fi
            if [[ $(readlink -f "$(type -P drbdsetup)") = */replctl ]]; then complete -F _replctl_setup drbdsetup; fi

            """
        return text
    }

    private static var general: String {
        Invocation.general.map { "--\($0.name)\($0.takesValue ? "=" : "")" }.joined(separator: " ")
    }

    /// Words in lines of a bearable length.
    private static func lines(_ words: [String], indent: Int) -> String {
        var text = ""
        var column = 0
        for word in words {
            if column + word.count > 110 {
                text += "\n" + String(repeating: " ", count: indent)
                column = indent
            } else if !text.isEmpty {
                text += " "
            }
            text += word
            column += word.count + 1
        }
        return text
    }

    private static func options(_ commands: [CommandSpec]) -> [(text: String, names: [String])] {
        grouped(
            commands.filter { !$0.options.isEmpty }.map { command in
                let words = command.options.map { "--\($0.name)\($0.kind == .flag ? "" : "=")" }
                let aliases = CommandTable.aliases.filter { $0.name == command.name }.map(\.alias)
                return (lines(words, indent: 16), [command.name] + aliases)
            })
    }

    private static func choices() -> [(text: String, names: [String])] {
        var seen: [String] = []
        let shapes = OptionTable.disk.map(\.shape) + OptionTable.net.map(\.shape) + OptionTable.resource.map(\.shape)
        return grouped(
            shapes.compactMap { shape in
                guard !seen.contains(shape.name) else { return nil }
                seen.append(shape.name)
                switch shape.kind {
                case .choice(let choices): return (choices.joined(separator: " "), [shape.name])
                case .flag: return ("yes no", [shape.name])
                case .number, .clampedNumber, .text, .reference: return nil
                }
            })
    }

    /// Equal texts once, with all their names, in the order of the tables.
    private static func grouped(_ pairs: [(text: String, names: [String])]) -> [(text: String, names: [String])] {
        var result: [(text: String, names: [String])] = []
        for pair in pairs {
            if let index = result.firstIndex(where: { $0.text == pair.text }) {
                result[index].names += pair.names
            } else {
                result.append(pair)
            }
        }
        return result
    }
}
