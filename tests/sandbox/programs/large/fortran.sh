# needs: gfortran
# says: 6

cat >a.f90 <<'END'
program a
  print '(I0)', sum([1, 2, 3])
end program
END
gfortran -o a a.f90 && ./a
