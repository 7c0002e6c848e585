#compdef claude-bottle
# zsh completion of claude-bottle. The command itself says what fits: see cmd_completion.c.
_claude_bottle()
{
	local line
	local -a found
	for line in "${(@f)$(claude-bottle __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		case $line in
		:files) _files ;;
		:commands) _command_names -e ;;
		'') ;;
		*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
		esac
	done
	(( $#found )) && _describe 'claude-bottle' found
}
if [[ $funcstack[1] == _claude_bottle ]]; then
	_claude_bottle "$@"
else
	compdef _claude_bottle claude-bottle
fi
