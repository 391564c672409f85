# Renders jobs as BOSH does: reads JSON documents from standard input, a line each,
# with job (the directory of its spec), out, properties, links and spec, and writes
# each template to out. Answers a line each: what a template raises, or nothing.
require 'erb'
require 'fileutils'
require 'json'
require 'ostruct'
require 'yaml'

# What comes after if_p and if_link.
class Otherwise
  def initialize(met) = @met = met
  def else = (yield unless @met)
  def else_if_p(*) = raise(NotImplementedError)
end

class UnknownProperty < StandardError; end

module Lookup
  def lookup(name) = name.split('.').reduce(@properties) { |h, k| h.is_a?(Hash) ? h[k] : nil }

  def p(name, *default)
    [name].flatten.each { |n| v = lookup(n); return v unless v.nil? }
    return default.first unless default.empty?
    raise UnknownProperty, "Can't find property '#{name}'"
  end

  def if_p(*names)
    values = names.map { |n| lookup(n) }
    return Otherwise.new(false) if values.any?(&:nil?)
    yield(*values)
    Otherwise.new(true)
  end
end

class Link
  include Lookup
  attr_reader :address

  def initialize(doc, provided)
    @address = doc.fetch('address')
    @properties = {}
    # Only what the provider lists can be seen.
    provided.each do |name|
      *above, last = name.split('.')
      value = name.split('.').reduce(doc.fetch('properties')) { |h, k| h.is_a?(Hash) ? h[k] : nil }
      above.reduce(@properties) { |h, k| h[k] ||= {} }[last] = value unless value.nil?
    end
  end
end

class Context
  include Lookup
  attr_reader :spec

  def initialize(doc, spec)
    @spec = OpenStruct.new(doc['spec'])
    @links = doc['links']
    @consumes = (spec['consumes'] || []).to_h { |c| [c['name'], c] }
    @properties = {}
    spec['properties'].each do |name, definition|
      value = name.split('.').reduce(doc['properties']) { |h, k| h.is_a?(Hash) ? h[k] : nil }
      value = definition['default'] if value.nil?
      *above, last = name.split('.')
      above.reduce(@properties) { |h, k| h[k] ||= {} }[last] = value
    end
  end

  def if_link(name)
    raise "#{name} is not in consumes" unless @consumes.key?(name)
    return Otherwise.new(false) unless @links.key?(name)
    yield link(name)
    Otherwise.new(true)
  end

  def link(name) = Link.new(@links.fetch(name), @links.fetch(name).fetch('provided'))

  def render(text, file)
    erb = ERB.new(text, trim_mode: '-')
    erb.filename = file
    erb.result(binding)
  end
end

def render(doc)
  spec = YAML.safe_load(File.read(File.join(doc['job'], 'spec')))
  context = Context.new(doc, spec)
  templates = spec['templates'].transform_keys { |source| File.join('templates', source) }
  templates.merge('monit' => 'monit').each do |source, destination|
    file = File.join(doc['job'], source)
    begin
      text = context.render(File.read(file), file)
    rescue StandardError => e
      return "- Error filling in template '#{source}': #{e.message}"
    end
    out = File.join(doc['out'], destination)
    FileUtils.mkdir_p(File.dirname(out))
    File.write(out, text)
  end
  nil
end

$stdin.each_line do |line|
  puts JSON.generate('wrong' => render(JSON.parse(line)))
  $stdout.flush
end
