# SPDX-License-Identifier: MIT
# fish completion for wslx(1); distributions by name.

function __wslx_distributions
    wslx --list --quiet 2>/dev/null
end

function __wslx_online
    wslx --list --online --quiet 2>/dev/null
end

# True when the first word after wslx is one of these.
function __wslx_verb
    set -l words (commandline -opc)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

function __wslx_first
    test (count (commandline -opc)) -eq 1
end

complete -c wslx -f
for verb in list install import import-in-place export manage mount unmount unregister terminate shutdown set-default set-version set-default-version status update uninstall version help debug-shell
    complete -c wslx -n __wslx_first -l $verb
end
complete -c wslx -n __wslx_first -a 'cp mount port network diag'
complete -c wslx -s d -l distribution -x -a '(__wslx_distributions)'
complete -c wslx -l distribution-id -x
complete -c wslx -s u -l user -x
complete -c wslx -l cd -x
complete -c wslx -s e -l exec
complete -c wslx -l shell-type -x -a 'standard login none'
complete -c wslx -n '__wslx_verb --manage --export --unregister --terminate -t --set-default -s --set-version' -a '(__wslx_distributions)'
complete -c wslx -n '__wslx_verb --list -l' -a '--all --running --quiet --verbose --online --json'
complete -c wslx -n '__wslx_verb --install' -a '(__wslx_online)'
complete -c wslx -n '__wslx_verb --install' -a '--from-file --name --location --no-launch --vhd-size --file-system'
complete -c wslx -n '__wslx_verb --manage' -a '--move --resize --compact --set-sparse --rename --clone --set-default-user'
complete -c wslx -n '__wslx_verb --export --import --import-in-place' -F
complete -c wslx -n '__wslx_verb --export --import' -a '--format --vhd'
complete -c wslx -n '__wslx_verb --import' -a '--size --file-system'
complete -c wslx -l file-system -x -a 'ext4 xfs btrfs'
complete -c wslx -l format -x -a 'tar tar.gz tar.xz tar.zst raw vhdx'
complete -c wslx -n '__wslx_verb --mount --unmount' -F
complete -c wslx -n '__wslx_verb --mount' -a '--vhd --bare --name --type --options --partition'
complete -c wslx -n '__wslx_verb --shutdown' -a --force
complete -c wslx -n '__wslx_verb --status --version -v' -a --json
complete -c wslx -n '__wslx_verb port' -a 'list add remove'
complete -c wslx -n '__wslx_verb cp' -F
complete -c wslx -n '__wslx_verb cp' -a '(__wslx_distributions | string replace -r \$ :)'
complete -c wslx -n '__wslx_verb cp' -a '--recursive --archive'
complete -c wslx -n '__wslx_verb mount' -a '--enable --disable --status --no-start --json'
complete -c wslx -n '__wslx_verb diag' -a 'list console kill registers dump timeline reclaim'
