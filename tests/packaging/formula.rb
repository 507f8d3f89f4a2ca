# Evaluates a Homebrew formula without Homebrew, as on one system: prints its address, checksum, version, and what it installs.
#
#   ruby formula.rb FILE macos|linux arm|intel
require "json"

FILE, SYSTEM, CPU = ARGV

# Records what is installed, wherever it goes.
class Place
  def initialize(installed) = @installed = installed

  def install(*sources)
    sources.flatten.each { |source| @installed.concat(source.is_a?(Hash) ? source.keys : [source]) }
  end

  def /(_) = self
end

class Formula
  class << self
    attr_reader :said

    def inherited(formula)
      super
      formula.instance_variable_set(:@said, {})
    end

    %i[desc homepage version license url sha256].each do |word|
      define_method(word) { |value| raise "#{word} twice" if @said.key?(word); @said[word] = value }
    end
    { on_macos: "macos", on_linux: "linux" }.each { |word, name| define_method(word) { |&block| class_eval(&block) if name == SYSTEM } }
    { on_arm: "arm", on_intel: "intel" }.each { |word, name| define_method(word) { |&block| class_eval(&block) if name == CPU } }

    %i[service test].each { |word| define_method(word) { |&block| raise "#{word} without a block" unless block } }
  end

  def installed = @installed ||= []

  %i[bin man1 bash_completion zsh_completion fish_completion pkgshare].each { |word| define_method(word) { Place.new(installed) } }
end

# The archive is not unpacked here; the pattern itself is what is looked for.
class Dir
  def self.[](pattern) = [pattern.sub("*", "streamgate")]
end

load FILE
formula = Streamgate.new
formula.install
puts JSON.generate(Streamgate.said.merge(installed: formula.installed))
