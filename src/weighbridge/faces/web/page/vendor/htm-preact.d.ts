// What the page uses of htm-preact.js, for `tsc`: the types of preact and its hooks, written down.
export type VNode = object | string | number | boolean | null | undefined;
export declare const html: (strings: TemplateStringsArray, ...values: any[]) => any;
export declare function render(tree: any, parent: Element): void;
export declare function useState<T>(first: T | (() => T)): [T, (next: T | ((old: T) => T)) => void];
export declare function useEffect(run: () => void | (() => void), inputs?: readonly unknown[]): void;
export declare function useLayoutEffect(run: () => void | (() => void), inputs?: readonly unknown[]): void;
export declare function useRef<T>(first: T): { current: T };
export declare function useMemo<T>(make: () => T, inputs: readonly unknown[]): T;
