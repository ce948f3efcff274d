# needs: bash diff
# says: hi

words=($(seq 3))
diff <(echo "${words[@]}") <(echo 1 2 3)
coproc cat
echo hi >&"${COPROC[1]}"
read -r -u "${COPROC[0]}" line
echo "$line"
