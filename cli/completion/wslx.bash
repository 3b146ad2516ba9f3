# SPDX-License-Identifier: MIT
# bash completion for wslx(1); distributions by name.

_wslx_distributions()
{
	wslx --list --quiet 2>/dev/null
}

_wslx()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]:-}
	local verbs="--list --install --import --import-in-place --export --manage --mount --unmount --unregister --terminate --shutdown
		--set-default --set-version --set-default-version --status --update --uninstall --version --help --debug-shell cp mount port network diag"
	local options="--distribution --distribution-id --user --cd --exec --shell-type"

	COMPREPLY=()
	case $prev in
	-d | --distribution | --manage | --export | --unregister | -t | --terminate | -s | --set-default | --set-version)
		mapfile -t COMPREPLY < <(compgen -W "$(_wslx_distributions)" -- "$cur")
		return
		;;
	--shell-type)
		mapfile -t COMPREPLY < <(compgen -W "standard login none" -- "$cur")
		return
		;;
	--format)
		mapfile -t COMPREPLY < <(compgen -W "tar tar.gz tar.xz tar.zst raw vhdx" -- "$cur")
		return
		;;
	--set-sparse)
		mapfile -t COMPREPLY < <(compgen -W "true false" -- "$cur")
		return
		;;
	-m | --move | -l | --location)
		[[ $verb != --list && $verb != -l ]] || return
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	-f | --from-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	if [[ $COMP_CWORD -eq 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$verbs $options" -- "$cur")
		return
	fi
	case $verb in
	--list | -l) mapfile -t COMPREPLY < <(compgen -W "--all --running --quiet --verbose --online --json" -- "$cur") ;;
	--install)
		if [[ $cur = -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--distribution --from-file --name --location --no-launch --vhd-size --file-system" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -W "$(wslx --list --online --quiet 2>/dev/null)" -- "$cur")
		fi
		;;
	--manage)
		mapfile -t COMPREPLY < <(compgen -W "--move --resize --compact --set-sparse --rename --clone --set-default-user" -- "$cur")
		;;
	--export | --import | --import-in-place)
		if [[ $cur = -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--format --vhd --size --file-system --version" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	--mount)
		if [[ $cur = -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--vhd --bare --name --type --options --partition" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	--unmount) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	--debug-shell) mapfile -t COMPREPLY < <(compgen -W "--distribution" -- "$cur") ;;
	--shutdown) mapfile -t COMPREPLY < <(compgen -W "--force" -- "$cur") ;;
	--status | --version | -v) mapfile -t COMPREPLY < <(compgen -W "--json" -- "$cur") ;;
	port) mapfile -t COMPREPLY < <(compgen -W "list add remove" -- "$cur") ;;
	cp)
		if [[ $cur = -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--recursive --archive --user" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"; compgen -S : -W "$(_wslx_distributions)" -- "$cur")
		fi
		;;
	mount) mapfile -t COMPREPLY < <(compgen -W "--enable --disable --status --user --no-start --json" -- "$cur") ;;
	diag) mapfile -t COMPREPLY < <(compgen -W "list console kill registers dump timeline reclaim" -- "$cur") ;;
	-*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
	esac
}

complete -o filenames -F _wslx wslx
