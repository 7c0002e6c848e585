# bash completion of claude-bottle. The command itself says what fits: see cmd_completion.c.
_claude_bottle()
{
	local IFS=$'\n' line
	COMPREPLY=()
	while read -r line; do
		if [[ $line == ":files" ]]; then
			compopt -o filenames 2>/dev/null
			COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
		elif [[ $line == ":commands" ]]; then
			COMPREPLY+=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"))
		else
			COMPREPLY+=("${line%%$'\t'*}")
		fi
	done < <(claude-bottle __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _claude_bottle claude-bottle
