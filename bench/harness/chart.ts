/**
 * Rows as a picture: throughput by message size, and below it how many times as good STP is as the
 * better of TCP and Unix socket. Near rows only (or those of a tiny run), drawn by echarts without a
 * browser. One file for light pages and one for dark ones, each with its own ground.
 */
import { createRequire } from 'node:module';
import type { CaseName } from './cases.js';
import type { Row } from './rows.js';
import { bytesText, type Group, groupRows, numberText, timesBestSocket } from './table.js';

// Its ESM entry is no ESM for Node; required, so that the names are the same on every Node.
const echarts = createRequire(import.meta.url)(
  'echarts/dist/echarts.js',
) as typeof import('echarts');

export type Theme = 'light' | 'dark';

const INK = {
  light: { ground: '#fcfcfb', ink: '#0b0b0b', second: '#52514e', grid: '#e4e3df' },
  dark: { ground: '#1a1a19', ink: '#ffffff', second: '#c3c2b7', grid: '#383835' },
} as const;

interface LineStyle {
  readonly path: string;
  readonly title: string;
  readonly light: string;
  readonly dark: string;
  readonly dash: 'solid' | 'dashed' | 'dotted';
  readonly symbol: 'circle' | 'triangle' | 'rect' | 'diamond' | 'none';
}

const line = (
  path: string,
  title: string,
  [light, dark]: readonly [string, string],
  symbol: LineStyle['symbol'],
  dash: LineStyle['dash'] = 'solid',
): LineStyle => ({ path, title, light, dark, dash, symbol });

const BLUE = ['#2a78d6', '#5598e7'] as const;
const GREEN = ['#17956a', '#1fb583'] as const;
const VIOLET = ['#4a3aa7', '#9085e9'] as const;
const MAGENTA = ['#c9407d', '#e87ba4'] as const;
const ORANGE = ['#d95926', '#eb6834'] as const;
const YELLOW = ['#b07800', '#eda100'] as const;
const GREY = ['#85847c', '#9b9a91'] as const;
const PLAIN = ['#0b0b0b', '#ffffff'] as const;

/** What is STP is solid, its rivals are dashed, the machine's own ceiling is dotted. */
const LINES: readonly LineStyle[] = [
  line('memcpy-2p', 'C, memcpy-2p', PLAIN, 'none', 'dotted'),
  line('stp-copy', 'STP, blocking copy', BLUE, 'circle'),
  line('stp-zero-copy', 'STP, in place', GREEN, 'triangle'),
  line('stp-onread', 'STP, onread', MAGENTA, 'rect'),
  line('stp-duplex', 'STP, Duplex', VIOLET, 'diamond'),
  line('tcp', 'TCP', ORANGE, 'circle', 'dashed'),
  line('unix', 'Unix socket', YELLOW, 'triangle', 'dashed'),
  line('zeromq-ipc', 'zeromq ipc', GREY, 'rect', 'dashed'),
  line('message-port', 'MessagePort (threads)', GREY, 'diamond', 'dashed'),
];

interface BarSpec {
  readonly case: CaseName;
  readonly size: number;
  readonly path: string;
  readonly title: string;
}

const bar = (name: CaseName, size: number, path: string, title: string): BarSpec => ({
  case: name,
  size,
  path,
  title,
});

/** From the top. */
const RATIO_BARS: readonly BarSpec[] = [
  bar('stream', 65536, 'stp-copy', 'stream 64 KiB, blocking copy'),
  bar('stream', 65536, 'stp-zero-copy', 'stream 64 KiB, in place'),
  bar('stream', 65536, 'stp-onread', 'stream 64 KiB, onread'),
  bar('stream', 65536, 'stp-duplex', 'stream 64 KiB, Duplex'),
  bar('stream', 1048576, 'stp-copy', 'stream 1 MiB, blocking copy'),
  bar('stream', 1048576, 'stp-duplex', 'stream 1 MiB, Duplex'),
  bar('ping-pong-spin', 64, 'stp-copy', 'round trip 64 B, spinning threads'),
  bar('ping-pong', 64, 'stp-duplex', 'round trip 64 B, event loop'),
  bar('ping-pong-nopoll', 64, 'stp-duplex', 'round trip 64 B, never polling'),
  bar('message-rate', 64, 'stp-duplex', '64 B messages, one a call'),
  bar('message-rate-batch', 64, 'stp-copy', '64 B messages, 256 a call'),
  bar('connect-rate', 0, 'stp-duplex', 'connect, accept, close'),
];

const WIDTH = 880;
const LINES_HEIGHT = 440;
const BAR_HEIGHT = 26;
const LEFT = 240;

function lineSeries(groups: readonly Group[], theme: Theme, sizes: readonly number[]) {
  const { ground } = INK[theme];
  return LINES.flatMap((style) => {
    const data = sizes.map((size) => {
      const group = groups.find((g) => g.case === 'stream' && g.size === size);
      return group?.rows.find((r) => r.path === style.path)?.value ?? null;
    });
    if (data.every((value) => value === null)) return [];
    const color = style[theme];
    return [
      {
        type: 'line' as const,
        silent: true,
        name: style.title,
        data,
        symbol: style.symbol,
        symbolSize: 8,
        lineStyle: { width: 2, type: style.dash, color },
        itemStyle: { color, borderColor: ground, borderWidth: 1 },
      },
    ];
  });
}

function ratioData(groups: readonly Group[]): { title: string; ratio: number }[] {
  return RATIO_BARS.flatMap(({ case: name, size, path, title }) => {
    const group = groups.find((g) => g.case === name && g.size === size);
    const row = group?.rows.find((r) => r.path === path);
    if (group === undefined || row === undefined) return [];
    const ratio = timesBestSocket(group, row);
    return ratio === undefined ? [] : [{ title, ratio }];
  });
}

/** A power of ten that holds all values, for the end of a logarithmic axis. */
const decadeBelow = (values: readonly number[]): number =>
  10 ** Math.floor(Math.log10(Math.min(...values)));
const decadeAbove = (values: readonly number[]): number =>
  10 ** Math.ceil(Math.log10(Math.max(...values)));

/** Beside `x.json`: `x.svg` and `x-dark.svg`. */
export const chartFile = (jsonFile: string, theme: Theme): string =>
  `${jsonFile.replace(/\.json$/, '')}${theme === 'dark' ? '-dark' : ''}.svg`;

/** @returns the SVG's text; undefined where no stream was measured and no ratio either */
export function chartOf(rows: readonly Row[], theme: Theme): string | undefined {
  const groups = groupRows(rows.filter((r) => r.regime !== 'far'));
  const sizes = [...new Set(groups.filter((g) => g.case === 'stream').map((g) => g.size))];
  const ratios = ratioData(groups);
  const lines = lineSeries(groups, theme, sizes);
  if (lines.length === 0 || ratios.length === 0) return undefined;
  const height = LINES_HEIGHT + 90 + ratios.length * BAR_HEIGHT;
  const { ground } = INK[theme];
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  chart.setOption({
    animation: false,
    backgroundColor: ground,
    textStyle: { fontFamily: 'system-ui, sans-serif' },
    ...optionOf(rows, groups, sizes, lines, ratios, theme),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function optionOf(
  rows: readonly Row[],
  groups: readonly Group[],
  sizes: readonly number[],
  lines: ReturnType<typeof lineSeries>,
  ratios: ReturnType<typeof ratioData>,
  theme: Theme,
) {
  const { ink, second, grid } = INK[theme];
  const streamed = groups.filter((g) => g.case === 'stream').flatMap((g) => g.rows);
  const drawn = streamed.filter((r) => LINES.some(({ path }) => path === r.path));
  const speeds = drawn.map((r) => r.value);
  const title = (text: string, subtext: string, top: number) => ({
    text,
    subtext,
    left: 16,
    top,
    itemGap: 4,
    textStyle: { color: ink, fontSize: 16, fontWeight: 600 as const },
    subtextStyle: { color: second, fontSize: 12.5 },
  });
  const logAxis = (gridIndex: number, values: readonly number[], format: string) => ({
    gridIndex,
    type: 'log' as const,
    min: decadeBelow(values),
    max: decadeAbove(values),
    axisLabel: { color: second, fontSize: 12, formatter: format },
    splitLine: { lineStyle: { color: grid } },
  });
  const first = rows[0];
  const values = ratios.map(({ ratio }) => ratio);
  const bestColor = BLUE[theme === 'light' ? 0 : 1];
  return {
    title: [
      title(
        'One way between two processes, GB/s by message size',
        `Payload written and read on both sides. Medians of near rounds; ${first?.cpu ?? ''}, Node ` +
          `${first?.node.replace(/^v/, '') ?? ''}`,
        12,
      ),
      title(
        'STP: times as good as the better of TCP and Unix socket, same run',
        'More bytes, messages or connections a second, or so many times shorter a round trip',
        LINES_HEIGHT + 4,
      ),
    ],
    legend: {
      type: 'plain' as const,
      orient: 'vertical' as const,
      left: WIDTH - 215,
      top: 80,
      align: 'left' as const,
      itemWidth: 34,
      itemGap: 12,
      data: lines.map(({ name }) => name),
      textStyle: { color: ink, fontSize: 13 },
    },
    grid: [
      { left: 64, right: 235, top: 72, height: LINES_HEIGHT - 130 },
      { left: LEFT, right: 80, top: LINES_HEIGHT + 56, height: ratios.length * BAR_HEIGHT },
    ],
    xAxis: [
      {
        gridIndex: 0,
        type: 'category' as const,
        data: sizes.map(bytesText),
        boundaryGap: false,
        axisLabel: { color: second, fontSize: 12 },
        axisLine: { lineStyle: { color: second } },
        axisTick: { show: false },
      },
      {
        ...logAxis(1, [...values, 1], '{value}x'),
        position: 'top' as const,
        axisLabel: { show: false },
      },
    ],
    yAxis: [
      logAxis(0, speeds, '{value}'),
      {
        gridIndex: 1,
        type: 'category' as const,
        inverse: true,
        data: ratios.map((r) => r.title),
        axisLabel: { color: ink, fontSize: 13 },
        axisLine: { show: false },
        axisTick: { show: false },
      },
    ],
    series: [
      ...lines,
      {
        type: 'bar' as const,
        silent: true,
        xAxisIndex: 1,
        yAxisIndex: 1,
        barWidth: 15,
        data: values,
        itemStyle: { color: bestColor, borderRadius: 2 },
        label: {
          show: true,
          position: 'right' as const,
          color: ink,
          fontSize: 13,
          formatter: ({ value }: { value: unknown }) => `${numberText(Number(value))}x`,
        },
        markLine: {
          symbol: 'none',
          silent: true,
          data: [{ xAxis: 1 }],
          lineStyle: { color: ink, type: 'solid' as const, width: 1.5 },
          label: { show: true, position: 'end' as const, formatter: '1x', color: second },
        },
      },
    ],
  };
}
