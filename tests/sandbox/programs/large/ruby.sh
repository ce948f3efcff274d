# needs: ruby
# says: 10

ruby -e 'puts (1..4).map { |n| Thread.new { n } }.map(&:value).sum'
