# SPDX-License-Identifier: MIT
#
# camrescue(1) in fish.  What there is to complete, camrescue says: its verbs and
# options, and what its daemon knows, if that is there; it takes a second at most.

function __camrescue_complete
    set -l tokens (commandline -opc)
    set -l current (commandline -ct)
    set -l program $tokens[1]
    set -l previous $tokens[-1]
    set -l verb
    set -l sub
    set -l remote no
    set -l named 0
    set -l skip no

    for word in $tokens[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        switch $word
            case --host -H
                set remote yes
                set skip yes
            case --bus-address --until --for --timeout --firmware --board --partition --from --who --why --lines -n
                set skip yes
            case --version
                # Alone it is a question; of firmware it has a value.
                test "$verb" = firmware; and set skip yes
            case '-*'
            case '*'
                if test -z "$verb"
                    set verb $word
                else if test $verb = firmware -a -z "$sub"
                    set sub $word
                else
                    set named (math $named + 1)
                end
        end
    end

    set -l question
    switch $previous
        case --host -H
            __fish_print_hostnames
            return
        case --firmware
            set question versions
            __fish_complete_path $current
        case --board
            set question boards
        case --until
            printf '%s\n' state= mode= firmware= diagnosis= update=
            return
        case --for
            printf '%s\n' runtime bootloader rom-dfu absent done
            return
        case --partition
            printf '%s\n' FIRMWARE BOOTLOADER HP HE ROMFS0 ROMFS1
            return
        case --bus-address --timeout --from --who --why --lines -n
            return
        case --version
            test "$verb" = firmware; and return
    end
    if test -z "$question"
        if string match -q -- '-*' $current
            if test -n "$verb"
                $program complete options $verb 2> /dev/null
            else
                printf '%s\n' --json --host --bus-address --help --version
            end
            return
        end
        switch "$verb"
            case ''
                set question verbs
            case help notify
                return
            case firmware
                switch "$sub"
                    case ''
                        set question firmware
                    case import
                        __fish_complete_path $current
                        return
                    case remove
                        set question images
                    case '*'
                        return
                end
            case label recover restore cancel hold release
                test $named -eq 0; or return
                set question cameras
            case '*'
                set question cameras
        end
    end
    # About another machine's daemon it is not asked: that would be an ssh for each key.
    if contains $question cameras versions boards images; and test $remote = yes
        return
    end
    $program complete $question 2> /dev/null
end

complete -c camrescue -f -a '(__camrescue_complete)'
